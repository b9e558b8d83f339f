"""The steps, run in namespaces of their own (see tests/pods/run)."""

import contextlib
import http.client
import json
import os
import secrets
import sys
import time

from load import CONFIGS, Load, ask, key
from manifest import Manifest
from names import Names
from pod import BRIDGE, Network, Pod

FOUNDERS = 3
STATE = "/nacos/v1/ns/raft/state"
# After so long without a word from the old id an empty node takes its place.
REPLACE_SECONDS = 30


class Failed(Exception):
    """What was not so, in one line."""


def expect(holds, otherwise):
    """Fails with the text unless it holds."""
    if not holds:
        raise Failed(otherwise)


def within(seconds, what, condition):
    """Waits until the condition gives something true, and returns it and how long it took."""
    started = time.monotonic()
    last = None
    while time.monotonic() - started < seconds:
        try:
            last = condition()
            if last:
                return last, time.monotonic() - started
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            last = repr(error)
        time.sleep(0.1)
    raise Failed(f"not within {seconds} s: {what} (last: {last})")


def say(text):
    """A line of the run."""
    print(f"pods: {text}", flush=True)


class Set:
    """The StatefulSet, and its controller's part that matters here."""

    def __init__(self, manifest, network, scratch):
        self.manifest, self.network = manifest, network
        self.pods = [Pod(manifest, network, scratch, f"quorate-{n}") for n in range(5)]
        self.replicas = self.pods[:FOUNDERS]

    def wait_ready(self, pods, seconds):
        """Until all of them are ready; how long the last one took."""
        def all_ready():
            for pod in pods:
                expect(pod.process.poll() is None, f"{pod.name} ended: {tail(pod.log_path)}")
            return all(pod.is_ready.is_set() for pod in pods)
        return within(seconds, f"{', '.join(pod.name for pod in pods)} ready", all_ready)[1]

    def stop(self, pod, hands_over=True):
        """Stops one pod and checks that it went well; the seconds it took."""
        pre_stop, term, code, said = pod.stop()
        expect(not said or not hands_over, f"{pod.name}: preStop: {said}")
        expect(code == 0, f"{pod.name} exited with {code} after {term:.1f} s")
        expect(term < 10.5, f"{pod.name} took {term:.1f} s to end")
        return pre_stop, term

    def stop_removed(self, pod):
        """Stops a pod whose node is no member any more. Once the node has heard of it, it ends by
        itself and says why, before, while or after preStop asks it."""
        _, term, code, _ = pod.stop()
        ended = code == 1 and "was removed from this cluster" in tail(pod.log_path)
        expect(code == 0 or ended, f"{pod.name} exited with {code} after {term:.1f} s")

    def state(self, pod):
        """The pod's view of the agreement."""
        status, body = ask(pod.address, "GET", STATE, {}, 3)
        expect(status == 200, f"{pod.name}: state answered {status}")
        return json.loads(body)

    def leader(self):
        """The pod that leads, when one does and all that run agree on it."""
        for pod in self.replicas:
            if pod.address and self.state(pod)["role"] == "LEADER":
                return pod
        return None

    def members(self, pod):
        """Members by id, as this pod knows them: a lost one and its successor share an address."""
        code, out, err = pod.exec("/quorate", "cluster", "--json", "status")
        if code != 0:
            # It may be starting: whoever waits asks again.
            raise ConnectionError(f"status: {err or out}")
        return {it["id"]: it for it in json.loads(out)["members"]}

    def voters_are(self, pods):
        """Whether each of these pods knows exactly these voters, and no learner."""
        wanted = sorted(self.manifest.address(pod.name) for pod in pods)
        for pod in pods:
            members = self.members(pod)
            roles = sorted(it["peer"] for it in members.values() if it["isVoter"])
            if roles != wanted or len(members) != len(wanted):
                return False
        return True

    def agreed(self):
        """Whether all have the same state at the same revision."""
        states = [self.state(pod) for pod in self.replicas]
        return len({(it["revision"], it["stateHash"], it["clusterId"]) for it in states}) == 1

    def check_alike(self):
        """Ends with one state on all of them."""
        within(20, "the same state on all nodes", self.agreed)


def tail(path):
    """The last lines of a node's log."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return " | ".join(file.read().splitlines()[-3:])


@contextlib.contextmanager
def load_on(cluster):
    """Load while the block runs; then what it was promised is looked up on every node."""
    load = Load(cluster.network)
    load.start()
    try:
        yield load
    finally:
        load.stop()
    say(load.report())
    expect(not load.failures, f"{len(load.failures)} writes failed, first: {load.failures[:3]}")
    expect(len(load.latencies) > 100, f"only {len(load.latencies)} writes")
    for pod in cluster.replicas:
        for data_id, content in load.acknowledged.items():
            pairs = key(data_id) | {"consistency": "linearizable"}
            answer = ask(pod.address, "GET", CONFIGS, pairs, 6)
            expect(answer == (200, content), f"{pod.name}: {data_id} is {answer}, not {content}")
    last = load.acknowledged["slow"]
    expect(last in load.heard, f"the listener did not hear of {last!r}")
    cluster.check_alike()


# --- the steps -----------------------------------------------------------------------------------


def founding(cluster):
    """Three empty pods, the last one late, become one cluster; the others are ready first then."""
    for late, pod in enumerate(cluster.replicas):
        time.sleep(late)
        pod.start()
    took = cluster.wait_ready(cluster.replicas, 60)
    within(10, "a leader", cluster.leader)
    ids = {cluster.state(pod)["clusterId"] for pod in cluster.replicas}
    expect(len(ids) == 1 and None not in ids, f"clusters: {ids}")
    expect(all(len(cluster.state(pod)["peers"]) == 3 for pod in cluster.replicas), "members")
    # A name of another namespace's form reaches a node, and one that does not exist does not.
    code, _, err = cluster.pods[0].exec("/quorate", "health", "--http", "quorate-1.quorate-peers.default.svc:8848")
    expect(code == 0, f"the address for clients is not found: {err}")
    code, _, _ = cluster.pods[0].exec("/quorate", "health", "--http", "quorate-9.quorate-peers:8848")
    expect(code != 0, "a name that does not exist is found")
    say(f"ready {took:.1f} s after the last pod started")


def rolling(cluster):
    """Each pod in turn is stopped and comes back under another address; no write fails."""
    with load_on(cluster):
        time.sleep(2)
        for pod in reversed(cluster.replicas):
            before, led = pod.address, cluster.leader() is pod
            id_before = cluster.state(pod)["nodeId"]
            pre_stop, term = cluster.stop(pod)
            pod.start()
            expect(pod.address != before, "the address is the same")
            took = cluster.wait_ready([pod], 60)
            expect(cluster.state(pod)["nodeId"] == id_before, "another id")
            say(
                f"{pod.name} {'led' if led else 'followed'}: preStop {pre_stop:.2f} s, SIGTERM "
                f"{term:.2f} s, {before} -> {pod.address}, ready after {took:.1f} s"
            )
            time.sleep(cluster.manifest.min_ready)


def majority(cluster):
    """Two of three gone: liveness holds, readiness falls, reads go on; then all is well again."""
    within(10, "a leader", cluster.leader)
    ask(cluster.pods[0].address, "POST", CONFIGS, key("kept") | {"content": "kept"}, 5)
    survivor, *others = cluster.replicas
    within(5, "the write everywhere", cluster.agreed)
    for pod in others:
        # The second one may lead, and then nobody can take over.
        cluster.stop(pod, hands_over=False)
    _, fell = within(20, "not ready", lambda: survivor.probe("readiness") != 200)
    _, _, period, _, allowed = cluster.manifest.probe("readiness")
    within(period * (allowed + 2), "out of the service", lambda: not survivor.is_ready.is_set())
    ended = time.monotonic() + 5
    while time.monotonic() < ended:
        expect(survivor.probe("liveness") == 200, "liveness fails without a majority")
        time.sleep(0.5)
    answer = ask(survivor.address, "GET", CONFIGS, key("kept"), 5)
    expect(answer == (200, "kept"), f"a read without a majority: {answer}")
    for pod in others:
        pod.start()
    took = cluster.wait_ready(cluster.replicas, 60)
    cluster.check_alike()
    say(f"not ready {fell:.1f} s after the second was gone; all ready {took:.1f} s after they came")


def volume(cluster):
    """One machine and its volume are lost: the pod comes back empty and takes its own place."""
    lost = cluster.replicas[1]
    old = cluster.state(lost)["nodeId"]
    with load_on(cluster):
        time.sleep(2)
        led = cluster.leader() is lost
        lost.lose_machine()
        lost.lose_volume()
        gone = time.monotonic()
        time.sleep(3)
        lost.start()
        within(
            REPLACE_SECONDS + 60,
            "three voters again",
            lambda: cluster.voters_are(cluster.replicas) and cluster.state(lost)["nodeId"] != old,
        )
        took = time.monotonic() - gone
        expect(took >= REPLACE_SECONDS, f"replaced after {took:.1f} s, before the old id was silent")
        cluster.wait_ready([lost], 30)
        new = cluster.state(lost)["nodeId"]
        listed = {it["id"] for it in cluster.members(cluster.replicas[0]).values()}
        expect(new in listed and old not in listed, f"members {listed}, old {old}, new {new}")
        say(f"{lost.name} {'led' if led else 'followed'}; three voters again after {took:.1f} s")


def scaling(cluster):
    """3 -> 5 -> 3 -> 5 under load: later ordinals join by themselves, members leave before pods do,
    and whoever was scaled away comes back with an empty volume."""
    cluster.network.add_addresses(4)
    with load_on(cluster):
        for turn in (1, 2):
            more = cluster.pods[FOUNDERS:]
            for pod in more:
                pod.start()
            cluster.replicas = cluster.pods[:]
            cluster.wait_ready(more, 90)
            _, up = within(60, "five voters", lambda: cluster.voters_are(cluster.replicas))
            if turn == 2:
                say(f"five voters again, {up:.1f} s after all were ready")
                return
            # What the chart's job runs; by hand it is the same from inside any pod.
            leaving = [cluster.manifest.address(pod.name) for pod in reversed(more)]
            started = time.monotonic()
            code, out, err = cluster.pods[0].exec(
                "/quorate", "cluster", "--server=http://quorate:8848",
                f"--cluster-secret-file={cluster.manifest.secret_file()}",
                "remove", "--if-present", *leaving,
            )
            expect(code == 0, f"remove: {out}{err}")
            removed = time.monotonic() - started
            cluster.replicas = cluster.pods[:FOUNDERS]
            within(20, "three voters", lambda: cluster.voters_are(cluster.replicas))
            code, out, err = cluster.pods[0].exec("/quorate", "cluster", "remove", "--if-present", *leaving)
            expect(code == 0, f"removed a second time: {out}{err}")
            for pod in reversed(more):
                cluster.stop_removed(pod)
                pod.lose_volume()  # whenScaled: Delete
            say(f"five voters {up:.1f} s after all were ready; two removed in {removed:.1f} s")


STEPS = [founding, rolling, majority, volume, scaling]


def prepare(scratch, manifest):
    """The files that a pod mounts."""
    for folder in ("logs", "volumes", "settings", "secret"):
        os.makedirs(f"{scratch}/{folder}", exist_ok=True)
    def write(name, text):
        with open(f"{scratch}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    write("settings/quorate.toml", manifest.settings)
    write("secret/cluster-secret", secrets.token_hex(32))
    os.chown(f"{scratch}/secret/cluster-secret", 0, manifest.group)
    os.chmod(f"{scratch}/secret/cluster-secret", 0o440)
    domain = Network.DOMAIN
    search = f"{domain} {domain.split('.', 1)[1]} {domain.split('.', 2)[2]}"
    write("resolv.conf", f"nameserver {BRIDGE}\nsearch {search}\noptions ndots:5\n")
    write("hosts", "127.0.0.1 localhost\n")
    image = f"{scratch}/stage/image"
    for target in [*manifest.mounts.values(), "/proc", "/dev"]:
        os.makedirs(image + target, exist_ok=True)
    for target in ("resolv.conf", "hosts"):
        open(f"{image}/etc/{target}", "a", encoding="utf-8").close()
    os.chmod(scratch, 0o755)


def main():
    manifest, scratch = Manifest(sys.argv[1]), sys.argv[2]
    wanted = sys.argv[3:] or [step.__name__ for step in STEPS]
    prepare(scratch, manifest)
    Network.make_bridge()
    network = Network(Names(BRIDGE), FOUNDERS + 1)
    cluster = Set(manifest, network, scratch)
    passed = failed = 0
    for step in STEPS:
        # Every other step needs what founding makes.
        if step.__name__ not in wanted and step is not founding:
            continue
        started = time.monotonic()
        try:
            step(cluster)
            findings = [it for pod in cluster.pods for it in pod.probe_findings]
            expect(not findings, "; ".join(findings))
            passed += 1
            print(f"ok   {step.__name__} ({time.monotonic() - started:.0f}s)")
        except Failed as failure:
            failed += 1
            print(f"FAIL {step.__name__}: {failure}")
            for pod in cluster.pods:
                if os.path.exists(pod.log_path):
                    print(f"     {pod.name}: {tail(pod.log_path)}")
            break
    print(f"pods: {passed} passed, {failed} failed")
    # Whatever still runs ends with this process's namespaces.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


main()
