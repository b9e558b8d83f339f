"""Clients of the service, and what they were promised. A write is repeated only as docs/operations.md
allows: at once when nothing was sent or nothing was written, after a read when its outcome is
unknown."""

import hashlib
import http.client
import json
import random
import threading
import time
import urllib.parse

DEADLINE_SECONDS = 5.0
CONFIGS = "/nacos/v1/cs/configs"


def ask(address, method, path, pairs, timeout, headers=None):
    """(status, body) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(address, 8848, timeout=timeout)
    try:
        text = urllib.parse.urlencode(pairs)
        if method == "POST":
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, text, form | (headers or {}))
        else:
            connection.request(method, f"{path}?{text}", headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def key(data_id):
    """The pairs that name a config."""
    return {"dataId": data_id, "group": "DEFAULT_GROUP"}


class Load:
    """Writers, one key each, and one listener of a key that changes every second."""

    def __init__(self, network, writers=6, pause=0.02):
        self.network = network
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.acknowledged = {}
        self.failures = []
        self.latencies = []
        self.repeats = {}
        self.heard = {}
        self._threads = [
            threading.Thread(target=self._write, args=(f"writer-{n}", pause)) for n in range(writers)
        ]
        self._threads.append(threading.Thread(target=self._write, args=("slow", 1.0)))
        self._threads.append(threading.Thread(target=self._listen))

    def start(self):
        """Begins; `stop` ends it."""
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Waits for each writer's last answer and for the listener to hear of the last change."""
        time.sleep(2 * DEADLINE_SECONDS if self.failures else 1)
        self._stop.set()
        for thread in self._threads:
            thread.join(40)

    def _some_endpoint(self, but=None):
        endpoints = self.network.endpoints()
        others = [it for it in endpoints if it != but] or endpoints
        return random.choice(others) if others else None

    def _note(self, why):
        with self._lock:
            self.repeats[why] = self.repeats.get(why, 0) + 1

    def _write(self, data_id, pause):
        """Publishes 1, 2, 3 ..., each within the deadline."""
        number = 0
        while not self._stop.wait(pause):
            number += 1
            content = f"{data_id} {number}"
            started = time.monotonic()
            last = self._publish(data_id, content, started + DEADLINE_SECONDS)
            took = time.monotonic() - started
            with self._lock:
                self.latencies.append(took)
                if last is None:
                    self.acknowledged[data_id] = content
                else:
                    self.failures.append(f"{content} after {took:.2f}s: {last}")

    def _publish(self, data_id, content, deadline):
        """None once it is there; the last reason when the deadline has passed."""
        address, why = None, "no endpoint"
        while (left := deadline - time.monotonic()) > 0:
            address = self._some_endpoint(but=address)
            if address is None:
                time.sleep(0.05)
                continue
            outcome, why = self._try(address, data_id, content, left)
            if outcome == "done":
                return None
            self._note(why)
            if outcome == "unknown" and self._reads(data_id, content, deadline):
                return None
        return why

    @staticmethod
    def _try(address, data_id, content, left):
        """("done" | "unwritten" | "unknown", what happened)"""
        pairs = key(data_id) | {"content": content}
        connection = http.client.HTTPConnection(address, 8848, timeout=min(left, 1.0))
        try:
            connection.connect()
        except OSError as error:
            return "unwritten", f"connect: {error}"
        try:
            # A node whose machine is gone answers never: there must be time to ask another.
            connection.sock.settimeout(min(left, 2.5))
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", CONFIGS, urllib.parse.urlencode(pairs), form)
            answer = connection.getresponse()
            status, body = answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return "unknown", f"broken off: {type(error).__name__}"
        finally:
            connection.close()
        if (status, body) == (200, "true"):
            return "done", ""
        said = f"{status} {body.split(', key=')[0]}"
        return ("unwritten" if "no leader" in body else "unknown"), said

    def _reads(self, data_id, content, deadline):
        """Whether a linearizable read shows the content."""
        while (left := deadline - time.monotonic()) > 0:
            address = self._some_endpoint()
            if address is None:
                time.sleep(0.05)
                continue
            try:
                pairs = key(data_id) | {"consistency": "linearizable"}
                status, body = ask(address, "GET", CONFIGS, pairs, min(left, 1.0))
            except (OSError, http.client.HTTPException):
                continue
            if status in (200, 404):
                return body == content
        return False

    def _listen(self):
        """Polls one key, reads it when it changed, for as long as there is load."""
        content = ""
        while not self._stop.is_set():
            address = self._some_endpoint()
            if address is None:
                time.sleep(0.05)
                continue
            md5 = hashlib.md5(content.encode()).hexdigest() if content else ""
            asked = {"Listening-Configs": f"slow\x02DEFAULT_GROUP\x02{md5}\x01"}
            try:
                wait = {"Long-Pulling-Timeout": "10000"}
                status, body = ask(address, "POST", f"{CONFIGS}/listener", asked, 15, wait)
                if status == 200 and body.strip():
                    status, body = ask(address, "GET", CONFIGS, key("slow"), 5)
                    if status == 200:
                        content = body
                        self.heard[content] = time.monotonic()
            except (OSError, http.client.HTTPException) as error:
                self._note(f"poll: {type(error).__name__}")
                time.sleep(0.05)

    def report(self):
        """One line of numbers."""
        times = sorted(self.latencies)
        at = lambda share: times[min(len(times) - 1, int(share * len(times)))] if times else 0.0
        return (
            f"{len(times)} writes, p50 {at(0.5) * 1000:.1f} ms, p99 {at(0.99) * 1000:.0f} ms, "
            f"max {at(1.0) * 1000:.0f} ms; {len(self.heard)} changes heard; "
            f"repeated: {json.dumps(self.repeats, sort_keys=True)}"
        )
