"""Pods: a network namespace each, with the image's files read-only, a volume, and the probes and the
stop that the manifest gives them. The bridge, the name server and the list of endpoints stand for
what a cluster has."""

import collections
import http.client
import os
import shutil
import subprocess
import threading
import time

BRIDGE = "10.77.0.1"
# As long as the endpoints of a service take to reach the others.
LATE_SECONDS = 0.5


def run(*command):
    """Runs a command that must succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Network:
    """The bridge, the addresses and who is ready. Freed addresses go to other pods soon."""

    DOMAIN = "default.svc.cluster.local"

    def __init__(self, names, spare_addresses):
        self.names = names
        self._lock = threading.Lock()
        self._free = collections.deque(f"10.77.0.{10 + n}" for n in range(spare_addresses))
        self._ready = {}
        self._pods = {}

    @staticmethod
    def make_bridge():
        """In the namespace of this process."""
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "pods", "type", "bridge")
        run("ip", "address", "add", f"{BRIDGE}/24", "dev", "pods")
        run("ip", "link", "set", "pods", "up")
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run/netns")

    def take(self):
        """An address that has been free the longest."""
        with self._lock:
            return self._free.popleft()

    def give_back(self, address):
        """The address of a pod that is gone."""
        with self._lock:
            self._free.append(address)

    def add_addresses(self, count):
        """For more pods."""
        with self._lock:
            self._free.extend(f"10.77.0.{100 + n}" for n in range(count))

    def publish(self, pod, address):
        """Tells the name server of a pod's address, or with None that it is gone."""
        self._later(self._publish, pod, address)

    def _publish(self, pod, address):
        with self._lock:
            self._pods[pod] = address
            there = [it for it in self._pods.values() if it]
        self.names.set(f"{pod}.quorate-peers.{self.DOMAIN}", [address] if address else [])
        self.names.set(f"quorate-peers.{self.DOMAIN}", there)

    def ready(self, pod, address):
        """Puts a pod into the client service, or with None takes it out."""
        self._later(self._set_ready, pod, address)

    def _set_ready(self, pod, address):
        with self._lock:
            self._ready[pod] = address
        self.names.set(f"quorate.{self.DOMAIN}", self.endpoints())

    def endpoints(self):
        """Addresses of the ready pods, as clients know them by now."""
        with self._lock:
            return [address for address in self._ready.values() if address]

    @staticmethod
    def _later(action, *arguments):
        timer = threading.Timer(LATE_SECONDS, action, arguments)
        timer.daemon = True
        timer.start()


class Pod:
    """One pod of the StatefulSet: its volume stays, the rest is new at each start."""

    def __init__(self, manifest, network, scratch, name):
        self.manifest, self.network, self.name = manifest, network, name
        self.scratch = scratch
        self.volume = f"{scratch}/volumes/{name}"
        self.log_path = f"{scratch}/logs/{name}.log"
        self.address = None
        self.process = None
        self.is_ready = threading.Event()
        self.ready_since = None
        self.probe_findings = []
        self._generation = 0
        self._watched = None

    # --- start ---------------------------------------------------------------------------------

    def start(self):
        """A new namespace with a new address, and the node in it."""
        self._generation += 1
        self.address = self.network.take()
        self._make_volume()
        self._make_network()
        self.process = self._spawn()
        self.network.publish(self.name, self.address)
        self._watched = threading.Event()
        threading.Thread(target=self._watch, args=(self._watched,), daemon=True).start()

    @property
    def namespace(self):
        """Name of its network namespace."""
        return f"{self.name}-{self._generation}"

    def _make_volume(self):
        if os.path.isdir(self.volume):
            return
        # As a new file system comes: of root's, writable by the group alone, not quite empty.
        os.makedirs(f"{self.volume}/lost+found")
        os.chmod(f"{self.volume}/lost+found", 0o700)
        os.chown(self.volume, 0, self.manifest.group)
        os.chmod(self.volume, 0o2775)

    def _make_network(self):
        space, end = self.namespace, f"veth-{self.name[-1]}"
        last = int(self.address.rsplit(".", 1)[1])
        run("ip", "netns", "add", space)
        run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", end, "master", "pods", "up")
        inside = ("ip", "-n", space)
        # The same hardware address for the same address, so that nobody's table is out of date.
        run(*inside, "link", "set", "eth0", "address", f"02:00:0a:4d:00:{last:02x}")
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")

    def _spawn(self):
        root = f"{self.scratch}/roots/{self.name}"
        os.makedirs(root, exist_ok=True)
        image = f"{self.scratch}/stage/image"
        mounts = self.manifest.mounts
        secret_mount = os.path.dirname(self.manifest.secret_file())
        assert mounts["cluster-secret"] == secret_mount, secret_mount
        sources = {
            self.volume: mounts["data"],
            f"{self.scratch}/settings": mounts["settings"],
            f"{self.scratch}/secret": mounts["cluster-secret"],
            f"{self.scratch}/resolv.conf": "/etc/resolv.conf",
            f"{self.scratch}/hosts": "/etc/hosts",
            "/dev": "/dev",
        }
        lines = ["set -e", f"mount --bind {image} {root}", f"mount -o remount,bind,ro {root}"]
        lines += [f"mount --rbind {source} {root}{target}" for source, target in sources.items()]
        lines += [f"mount -t proc none {root}/proc", 'exec "$@"']
        user, group = self.manifest.user, self.manifest.group
        command = ["ip", "netns", "exec", self.namespace, "unshare", "--mount"]
        command += ["sh", "-c", "\n".join(lines), "sh"]
        command += ["chroot", f"--userspec={user}:{group}", f"--groups={group}", root, "/quorate"]
        with open(self.log_path, "ab") as log:
            log.write(f"--- {self.namespace} at {self.address}\n".encode())
            log.flush()
            environment = self.manifest.environment(self.name)
            path = {"PATH": os.environ["PATH"]}
            return subprocess.Popen(
                command + self.manifest.arguments, env=environment | path, stdout=log, stderr=log
            )

    def exec(self, *command, timeout=60):
        """Runs the image's binary in the pod; (exit code, standard output, standard error)."""
        root = f"{self.scratch}/roots/{self.name}"
        user, group = self.manifest.user, self.manifest.group
        inside = ["nsenter", f"--target={self.process.pid}", "--net", "--mount"]
        inside += ["chroot", f"--userspec={user}:{group}", f"--groups={group}", root]
        environment = self.manifest.environment(self.name) | {"PATH": os.environ["PATH"]}
        done = subprocess.run(
            inside + list(command), env=environment, capture_output=True, text=True, timeout=timeout
        )
        return done.returncode, done.stdout, done.stderr

    # --- probes --------------------------------------------------------------------------------

    def _get(self, path, port, timeout):
        connection = http.client.HTTPConnection(self.address, port, timeout=timeout)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def probe(self, name):
        """Asks once, as the probe of this name does; the status, or None."""
        path, port, _, timeout, _ = self.manifest.probe(name)
        return self._get(path, port, timeout)

    def _watch(self, ended):
        """What the kubelet does. A liveness that fails as often as the manifest allows is found."""
        _, _, period, _, allowed = self.manifest.probe("startup")
        for _ in range(allowed):
            if self.probe("startup") == 200 or ended.wait(period):
                break
        due = {"readiness": time.monotonic(), "liveness": time.monotonic()}
        missed = {"readiness": 0, "liveness": 0}
        while not ended.is_set():
            for name in due:
                _, _, period, _, allowed = self.manifest.probe(name)
                if time.monotonic() < due[name]:
                    continue
                due[name] += period
                missed[name] = 0 if self.probe(name) == 200 else missed[name] + 1
                if ended.is_set():
                    return
                if name == "readiness":
                    self._judge(missed[name], allowed)
                elif missed[name] == allowed:
                    self.probe_findings.append(f"{self.namespace}: liveness failed {allowed} times")
            ended.wait(0.2)

    def _judge(self, missed, allowed):
        if missed == 0 and not self.is_ready.is_set():
            self.ready_since = time.monotonic()
            self.is_ready.set()
            self.network.ready(self.name, self.address)
        elif missed >= allowed and self.is_ready.is_set():
            self.is_ready.clear()
            self.network.ready(self.name, None)

    # --- end -----------------------------------------------------------------------------------

    def stop(self):
        """Ends the pod as the kubelet does: leaves the service, preStop, SIGTERM, and after the
        grace SIGKILL. (seconds of preStop, seconds of SIGTERM, exit code, what preStop said)"""
        started = time.monotonic()
        self._leave()
        code, out, err = self.exec(*self.manifest.pre_stop, timeout=self.manifest.grace)
        said = "" if code == 0 else f"exit {code}: {out}{err}".strip()
        asked = time.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(self.manifest.grace - (asked - started))
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        ended = time.monotonic()
        self._clean()
        return asked - started, ended - asked, code, said

    def lose_machine(self):
        """Ends at once and without a word, as when the machine is gone."""
        self._leave()
        run("ip", "link", "delete", f"veth-{self.name[-1]}")
        self.process.kill()
        self.process.wait()
        self._clean()

    def _leave(self):
        self._watched.set()
        self.is_ready.clear()
        self.network.ready(self.name, None)

    def _clean(self):
        run("ip", "netns", "delete", self.namespace)
        # Goes with its namespace, but not at once.
        subprocess.run(["ip", "link", "delete", f"veth-{self.name[-1]}"], stderr=subprocess.DEVNULL)
        self.network.publish(self.name, None)
        self.network.give_back(self.address)
        self.address = None

    def lose_volume(self):
        """Deletes the claim; the next start finds a new volume."""
        shutil.rmtree(self.volume)
