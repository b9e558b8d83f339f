// npm nacos 2.6.3 against three nodes: node node_client.mjs HOST:PORT HOST:PORT HOST:PORT
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

const GROUP = 'DEFAULT_GROUP';
const SOON = 15_000;
const TEXT = 'name=caf\u00e9 & \u6d4b\u8bd5\nrate=50%+1 =?#\ttab\n';

// What a listener hears, one at a time, each within a time limit.
class Heard {
  #values = [];
  #waiting = null;

  put(value) {
    this.#values.push(value);
    this.#waiting?.();
  }

  async next() {
    if (this.#values.length === 0) {
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`nothing heard in ${SOON} ms`)), SOON);
      });
      await Promise.race([new Promise((resolve) => (this.#waiting = resolve)), late]);
      clearTimeout(timer);
      this.#waiting = null;
    }
    return this.#values.shift();
  }
}

let clients = 0;

async function client(serverAddr, namespace) {
  const made = new nacos.NacosConfigClient({
    serverAddr,
    // Not used for anything but a name: clients of one name in a process share one's connection.
    endpoint: `client-${(clients += 1)}`,
    namespace,
    requestTimeout: 6000,
    cacheDir: `${process.cwd()}/cache`,
  });
  made.on('error', (error) => {
    console.error('node: client error:', error.message);
    process.exit(1);
  });
  await made.ready();
  return made;
}

// One client publishes, one reads, one listens, through create, change and removal.
async function round(publisher, reader, listener, dataId) {
  const heard = new Heard();
  assert.equal(await publisher.publishSingle(dataId, GROUP, TEXT, { type: 'properties' }), true);
  assert.equal(await publisher.getConfig(dataId, GROUP), TEXT);
  listener.subscribe({ dataId, group: GROUP }, (content) => heard.put(content));
  // The first call tells what is there; that node may not have had it yet.
  let first = await heard.next();
  if (first === null) first = await heard.next();
  assert.equal(first, TEXT);
  for (const content of ['second', `third ${TEXT}`]) {
    assert.equal(await publisher.publishSingle(dataId, GROUP, content), true);
    assert.equal(await heard.next(), content);
    assert.equal(await listener.getConfig(dataId, GROUP), content);
  }
  assert.equal(await reader.remove(dataId, GROUP), true);
  assert.equal(await reader.getConfig(dataId, GROUP), null);
  assert.equal(await heard.next(), null);
  listener.unSubscribe({ dataId, group: GROUP });
  console.log(`node: publish, get, listen, remove of ${dataId}: ok`);
}

const servers = process.argv.slice(2);
const nodes = [];
for (const server of servers) nodes.push(await client(server));
for (let turn = 0; turn < 3; turn += 1) {
  const [publisher, reader, listener] = [...nodes.slice(turn), ...nodes.slice(0, turn)];
  await round(publisher, reader, listener, `node-${turn}.properties`);
}
const everywhere = await client(servers.join(','));
await round(everywhere, everywhere, everywhere, 'node-all.properties');
const tenant = await client(servers[0], 'team-a');
assert.equal(await tenant.publishSingle('node-ns', GROUP, 'inside'), true);
assert.equal(await tenant.getConfig('node-ns', GROUP), 'inside');
assert.equal(await nodes[0].getConfig('node-ns', GROUP), null);
await round(tenant, tenant, tenant, 'node-ns.properties');
// Polls that are still held would keep the process alive.
process.exit(0);
