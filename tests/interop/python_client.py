"""nacos-sdk-python 1.0.0 against three nodes: python_client.py HOST:PORT HOST:PORT HOST:PORT

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

from nacos import NacosClient

GROUP = "DEFAULT_GROUP"
SOON = 15
TEXT = "name=caf\u00e9 & \u6d4b\u8bd5\nrate=50%+1 =?#\ttab\n"


def client(servers, namespace=""):
    """A client with its log and caches in the working directory."""
    made = NacosClient(servers, namespace=namespace, logDir=os.path.join(os.getcwd(), "logs"))
    made.set_options(no_snapshot=True)
    return made


def expect(what, found, wanted):
    """Ends the script when the two differ."""
    if found != wanted:
        sys.exit(f"{what}: found {found!r}, wanted {wanted!r}")
    print(f"python: {what}: ok")


def round_of(publisher, reader, listener, data_id):
    """One client publishes, one reads, one listens, through create, change and removal."""
    heard = queue.Queue()
    expect("publish", publisher.publish_config(data_id, GROUP, TEXT, config_type="properties"), True)
    expect("read at the publisher", publisher.get_config(data_id, GROUP), TEXT)
    listener.add_config_watcher(data_id, GROUP, lambda event: heard.put(event["content"]))
    first = listener.get_config(data_id, GROUP)
    if first != TEXT:
        # The publish had not reached that node when it was asked.
        expect("heard of the publish", heard.get(timeout=SOON), TEXT)
    for content in ("second", "third " + TEXT):
        expect("publish again", publisher.publish_config(data_id, GROUP, content), True)
        while (found := heard.get(timeout=SOON)) == TEXT:
            pass
        expect("heard of the change", found, content)
        expect("read at the listener", listener.get_config(data_id, GROUP), content)
    expect("remove", reader.remove_config(data_id, GROUP), True)
    expect("read after the removal", reader.get_config(data_id, GROUP), None)
    expect("heard of the removal", heard.get(timeout=SOON), None)


def main(servers):
    """Each node in each role, then one client that knows all three."""
    nodes = [client(server) for server in servers]
    for turn in range(3):
        turned = nodes[turn:] + nodes[:turn]
        round_of(*turned, f"python-{turn}.properties")
    everywhere = client(",".join(servers))
    round_of(everywhere, everywhere, everywhere, "python-all.properties")
    tenant = client(servers[0], namespace="team-a")
    expect("publish in a namespace", tenant.publish_config("python-ns", GROUP, "inside"), True)
    expect("read in the namespace", tenant.get_config("python-ns", GROUP), "inside")
    expect("read outside of it", nodes[0].get_config("python-ns", GROUP), None)
    round_of(tenant, tenant, tenant, "python-ns.properties")
    for used in [*nodes, everywhere, tenant]:
        # A process of the client's that would outlive this one.
        if getattr(used, "process_mgr", None):
            used.process_mgr.shutdown()
    sys.stdout.flush()
    # Its threads wait for polls that are still held.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
