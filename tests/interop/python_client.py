"""What a service does with configurations, through nacos-sdk-python 1.0.0 (HTTP 1.x).

Arguments: the addresses of the nodes. Prints a line for each case; asks for a node to be killed by
the line KILL and goes on when it reads a line.

What this client sends, read in its source and recorded with a stub server:

- It knows /nacos/v1/cs/configs and /nacos/v1/cs/configs/listener; no login without a user name.
- A publish is a POST whose parameters are all in the query string, with an empty body and no
  Content-Type; a space is sent as "+". get and delete use the query string too.
- Only the body "true" counts as success. 404 on a get means absent. On 500, 502 and 503 it tries
  the next server; it gives up after 3 s, before the server's own 5 s.
- Its poll is a form, encoded once, held for 30 s. Without a namespace its lines end in an empty
  fourth word, and the md5 of a key that it has not seen is empty: its first poll is answered at
  once when the key exists. It never asks not to be held.
"""

import os
import queue
import sys
import threading
import time

from cases import GROUP, SOON, UNICODE, end, same, told
from nacos import NacosClient

used = []


def check(name, body):
    try:
        body()
        told(name)
    except Exception as error:  # noqa: BLE001: any failure is a line
        told(name, error)


def connect(servers, namespace=""):
    """A client with its log and caches in the working directory."""
    made = NacosClient(servers, namespace=namespace, logDir=os.path.join(os.getcwd(), "logs"))
    made.set_options(no_snapshot=True)
    used.append(made)
    return made


def becomes(client, key, expected):
    found = None
    for _ in range(100):
        found = client.get_config(key, GROUP)
        if found == expected:
            return
        time.sleep(0.05)
    same(expected, found)


def eventually(action):
    for _ in range(20):
        try:
            if action():
                return
        except Exception:  # noqa: BLE001, S110: the node that it asked is gone
            pass
        time.sleep(0.5)
    raise AssertionError("never answered")


def main(nodes):
    servers = ",".join(nodes)
    client, other = connect(servers), connect(nodes[-1])
    heard = queue.Queue()

    def hears(expected):
        for _ in range(10):
            if heard.get(timeout=SOON) == expected:
                return
        raise AssertionError(f"other things heard than {expected}")

    def publish_get():
        for node in nodes:
            same(True, connect(node).publish_config("plain", GROUP, node, config_type="properties"))
            becomes(client, "plain", node)
            becomes(other, "plain", node)
        same(None, client.get_config("absent", GROUP))

    def unicode():
        same(True, client.publish_config("unicode", GROUP, UNICODE))
        becomes(other, "unicode", UNICODE)

    def remove():
        same(True, client.publish_config("removed", GROUP, "x"))
        becomes(client, "removed", "x")
        same(True, client.remove_config("removed", GROUP))
        becomes(client, "removed", None)
        same(True, client.remove_config("removed", GROUP))

    def namespaces():
        inside = connect(servers, "space-1")
        same(True, inside.publish_config("plain", GROUP, "inside"))
        becomes(inside, "plain", "inside")
        becomes(client, "plain", nodes[-1])

    def listen():
        client.add_config_watcher("heard", GROUP, lambda event: heard.put(event["content"]))
        for content in ("created", "changed"):
            same(True, other.publish_config("heard", GROUP, content))
            hears(content)
        same(True, other.remove_config("heard", GROUP))
        hears(None)
        same(True, other.publish_config("heard", GROUP, "again"))
        hears("again")

    def silent():
        same(True, other.publish_config("heard", GROUP, "again"))
        time.sleep(3)
        same(True, heard.empty())

    def many():
        left, all_told = set(range(500)), threading.Event()

        def listener(event):
            if event["content"] == "told":
                left.discard(int(event["data_id"].removeprefix("many-")))
                if not left:
                    all_told.set()

        for number in range(500):
            client.add_config_watcher(f"many-{number}", GROUP, listener)
        for number in range(500):
            same(True, other.publish_config(f"many-{number}", GROUP, "told"))
        assert all_told.wait(2 * SOON), f"{len(left)} were not heard of"

    def after():
        eventually(lambda: client.publish_config("plain", GROUP, "after"))
        becomes(client, "plain", "after")

    def listen_after():
        eventually(lambda: client.publish_config("heard", GROUP, "after"))
        hears("after")

    check("publish, get", publish_get)
    check("unicode", unicode)
    print("lacks 1 MiB: the client puts the content into the request's line, which is limited")
    check("remove", remove)
    check("namespaces are apart", namespaces)
    print("lacks compare and set: the client has none")
    check("a listener hears of creation, change and removal", listen)
    check("the same content is silent", silent)
    check("500 keys", many)
    if len(nodes) > 1:
        print("KILL", flush=True)
        sys.stdin.readline()
        check("publish, get with a node killed", after)
        check("a listener hears with a node killed", listen_after)
    for one in used:
        # A process of the client's that would outlive this one.
        if getattr(one, "process_mgr", None):
            one.process_mgr.shutdown()
    # Its threads wait for polls that are still held.
    os._exit(end())


if __name__ == "__main__":
    main(sys.argv[1:])
