// What a service does with configurations, through npm nacos 2.6.3 (HTTP 1.x). Arguments: the
// addresses of the nodes. Prints a line for each case; asks for a node to be killed by the line KILL
// and goes on when it reads a line.
//
// What this client sends, read in its source and recorded with a stub server:
//
// - Its configuration half knows /nacos/v1/cs/configs and /nacos/v1/cs/configs/listener; with
//   addresses given it asks for no server list.
// - A publish is a form with "charset=utf8" (no hyphen) behind its media type; tenant, type and
//   appName are sent empty when they have no value. get and delete use the query string, with an
//   empty tenant, and carry the form's Content-Type without having a body.
// - Any 200 counts as success, 404 as absent; after anything else it tries the next address.
// - Its poll is a form with three words a line (four with a namespace, and then the field tenant
//   beside it), held for 30 s; the answer is decoded with decodeURIComponent.
// - UTF-8 throughout; it would take GBK only if an answer's Content-Type said so. Every request
//   carries a signature header, made with an empty key when none is configured.

import assert from 'node:assert/strict';
import nacos from 'nacos';

const GROUP = 'interop';
const SOON = 45_000;

let clients = 0;
let failed = 0;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function check(name, body) {
  try {
    await body();
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${String(error).slice(0, 300)}`);
  }
}

async function connect(serverAddr, namespace) {
  const made = new nacos.NacosConfigClient({
    serverAddr,
    // Not used for anything but a name: clients of one name in a process share one's connection.
    endpoint: `client-${(clients += 1)}`,
    namespace,
    requestTimeout: 6000,
    cacheDir: `${process.cwd()}/cache`,
  });
  // A node that is gone is told of here, and the next one is tried.
  made.on('error', () => {});
  await made.ready();
  return made;
}

async function becomes(client, key, expected) {
  let found;
  for (let left = 100; left > 0; left -= 1) {
    found = await client.getConfig(key, GROUP);
    if (found === expected) return;
    await sleep(50);
  }
  assert.equal(found, expected);
}

async function eventually(action) {
  for (let left = 20; left > 0; left -= 1) {
    try {
      if (await action()) return;
    } catch {
      // The node that it asked is gone.
    }
    await sleep(500);
  }
  assert.fail('never answered');
}

const nodes = process.argv.slice(2);
const servers = nodes.join(',');
const client = await connect(servers);
const other = await connect(nodes.at(-1));
const heard = [];

async function hears(expected) {
  for (const until = Date.now() + SOON; Date.now() < until; await sleep(20)) {
    if (heard.length > 0 && heard.shift() === expected) return;
  }
  assert.fail(`not heard: ${expected}`);
}

await check('publish, get', async () => {
  for (const node of nodes) {
    const publisher = await connect(node);
    assert.equal(await publisher.publishSingle('plain', GROUP, node, { type: 'properties' }), true);
    await becomes(client, 'plain', node);
    await becomes(other, 'plain', node);
  }
  assert.equal(await client.getConfig('absent', GROUP), null);
});
await check('unicode', async () => {
  const content = '配置 ✓ 😀 \n\t&=+%#"\'<>';
  assert.equal(await client.publishSingle('unicode', GROUP, content), true);
  await becomes(other, 'unicode', content);
});
await check('1 MiB', async () => {
  const content = '0123456789abcdef'.repeat(64 * 1024);
  assert.equal(await client.publishSingle('large', GROUP, content), true);
  await becomes(other, 'large', content);
});
await check('remove', async () => {
  assert.equal(await client.publishSingle('removed', GROUP, 'x'), true);
  await becomes(client, 'removed', 'x');
  assert.equal(await client.remove('removed', GROUP), true);
  await becomes(client, 'removed', null);
  assert.equal(await client.remove('removed', GROUP), true);
});
await check('namespaces are apart', async () => {
  const inside = await connect(servers, 'space-1');
  assert.equal(await inside.publishSingle('plain', GROUP, 'inside'), true);
  await becomes(inside, 'plain', 'inside');
  await becomes(client, 'plain', nodes.at(-1));
});
console.log('lacks compare and set: the client has none');
await check('a listener hears of creation, change and removal', async () => {
  client.subscribe({ dataId: 'heard', group: GROUP }, (content) => heard.push(content));
  for (const content of ['created', 'changed']) {
    assert.equal(await other.publishSingle('heard', GROUP, content), true);
    await hears(content);
  }
  assert.equal(await other.remove('heard', GROUP), true);
  await hears(null);
  assert.equal(await other.publishSingle('heard', GROUP, 'again'), true);
  await hears('again');
});
await check('the same content is silent', async () => {
  assert.equal(await other.publishSingle('heard', GROUP, 'again'), true);
  await sleep(3000);
  assert.deepEqual(heard, []);
});
await check('500 keys', async () => {
  const left = new Set(Array.from({ length: 500 }, (_, number) => number));
  for (const number of left) {
    client.subscribe({ dataId: `many-${number}`, group: GROUP }, (content) => {
      if (content === 'told') left.delete(number);
    });
  }
  for (let number = 0; number < 500; number += 1) {
    assert.equal(await other.publishSingle(`many-${number}`, GROUP, 'told'), true);
  }
  for (const until = Date.now() + 2 * SOON; left.size > 0 && Date.now() < until; ) await sleep(100);
  assert.equal(left.size, 0);
});
if (nodes.length > 1) {
  console.log('KILL');
  await new Promise((resolve) => process.stdin.once('data', resolve));
  await check('publish, get with a node killed', async () => {
    await eventually(() => client.publishSingle('plain', GROUP, 'after'));
    await becomes(client, 'plain', 'after');
  });
  await check('a listener hears with a node killed', async () => {
    await eventually(() => client.publishSingle('heard', GROUP, 'after'));
    await hears('after');
  });
}
console.log(failed === 0 ? 'all passed' : `${failed} failed`);
// Polls that are still held would keep the process alive.
process.exit(failed === 0 ? 0 : 1);
