"""What a service does with configurations, through nacos-sdk-python from 2.0 on (gRPC).

Arguments: the addresses of the nodes. Prints a line for each case; asks for a node to be killed
by the line KILL and goes on when it reads a line.
"""

import asyncio
import hashlib
import os
import sys

from cases import GROUP, SOON, UNICODE, end, same, told
from v2.nacos import ClientConfigBuilder, ConfigParam, GRPCConfig, NacosConfigService


async def check(name, body):
    try:
        await body()
        told(name)
    except Exception as error:  # noqa: BLE001: any failure is a line
        told(name, error)


async def connect(servers, namespace=""):
    builder = ClientConfigBuilder().server_address(servers).namespace_id(namespace)
    config = builder.log_level("ERROR").grpc_config(GRPCConfig(grpc_timeout=5000)).build()
    # Without it a failed read is answered from a file.
    config.disable_use_config_cache = True
    return await NacosConfigService.create_config_service(config)


async def publish(client, key, content):
    return await client.publish_config(ConfigParam(data_id=key, group=GROUP, content=content))


async def get(client, key):
    return await client.get_config(ConfigParam(data_id=key, group=GROUP))


async def becomes(client, key, expected):
    found = None
    for _ in range(100):
        found = await get(client, key)
        if found == expected:
            return
        await asyncio.sleep(0.05)
    same(expected, found)


async def eventually(action):
    for _ in range(20):
        try:
            if await action():
                return
        except Exception:  # noqa: BLE001, S110: the node that it asked is gone
            pass
        await asyncio.sleep(0.5)
    raise AssertionError("never answered")


async def main(nodes):
    servers = ",".join(nodes)
    client, other = await connect(servers), await connect(servers)
    heard = asyncio.Queue()

    async def hears(expected):
        for _ in range(10):
            if await asyncio.wait_for(heard.get(), SOON) == expected:
                return
        raise AssertionError(f"other things heard than {expected}")

    async def publish_get():
        same(True, await publish(client, "plain", "a=1"))
        await becomes(client, "plain", "a=1")
        await becomes(other, "plain", "a=1")

    async def unicode():
        same(True, await publish(client, "unicode", UNICODE))
        await becomes(other, "unicode", UNICODE)

    async def large():
        content = "0123456789abcdef" * 65536
        same(True, await publish(client, "large", content))
        await becomes(other, "large", content)

    async def remove():
        same(True, await publish(client, "removed", "x"))
        await becomes(client, "removed", "x")
        param = ConfigParam(data_id="removed", group=GROUP)
        same(True, await client.remove_config(param))
        await becomes(client, "removed", "")
        same(True, await client.remove_config(param))

    async def namespaces():
        inside = await connect(servers, "space-1")
        same(True, await publish(inside, "plain", "inside"))
        await becomes(inside, "plain", "inside")
        await becomes(client, "plain", "a=1")

    async def compare_and_set():
        same(True, await publish(client, "cas", "1"))
        await becomes(client, "cas", "1")

        async def cas(content, md5):
            param = ConfigParam(data_id="cas", group=GROUP, content=content, cas_md5=md5)
            return await client.publish_config(param)

        first = hashlib.md5(b"1").hexdigest()  # noqa: S324: what the server compares
        same(True, await cas("2", first))
        try:
            won = await cas("3", first)
        except Exception:  # noqa: BLE001: how this client tells of it
            won = False
        same(False, won)
        await becomes(client, "cas", "2")

    async def listen():
        async def listener(_tenant, _group, _data_id, content):
            await heard.put(content)

        await client.add_listener("heard", GROUP, listener)
        same(True, await publish(other, "heard", "created"))
        await hears("created")
        same(True, await publish(other, "heard", "changed"))
        await hears("changed")
        same(True, await other.remove_config(ConfigParam(data_id="heard", group=GROUP)))
        await asyncio.sleep(1)
        same(True, await publish(other, "heard", "again"))
        await hears("again")

    async def silent():
        same(True, await publish(other, "heard", "again"))
        await asyncio.sleep(3)
        same(True, heard.empty())

    async def many():
        left = set(range(500))

        async def listener(_tenant, _group, data_id, content):
            if content == "told":
                left.discard(int(data_id.removeprefix("many-")))

        for number in range(500):
            await client.add_listener(f"many-{number}", GROUP, listener)
        for number in range(500):
            same(True, await publish(other, f"many-{number}", "told"))
        for _ in range(20 * SOON):
            if not left:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{len(left)} were not heard of")

    async def after():
        await eventually(lambda: publish(client, "plain", "after"))
        await becomes(client, "plain", "after")

    async def listen_after():
        await eventually(lambda: publish(other, "heard", "after"))
        await hears("after")

    await check("publish, get", publish_get)
    await check("unicode", unicode)
    await check("1 MiB", large)
    await check("remove", remove)
    await check("namespaces are apart", namespaces)
    await check("compare and set", compare_and_set)
    await check("a listener hears of creation, change and removal", listen)
    await check("the same content is silent", silent)
    await check("500 keys", many)
    if len(nodes) > 1:
        print("KILL", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await check("publish, get with a node killed", after)
        await check("a listener hears with a node killed", listen_after)
    # Its tasks that look for the killed node would be waited for.
    os._exit(end())


asyncio.run(main(sys.argv[1:]))
