"""A name server that tells old news, as a cluster's does: answers, and that there is none, are kept
for five seconds."""

import socket
import struct
import threading
import time

KEPT_SECONDS = 5.0
ADDRESS, ANY = 1, 255
NO_SUCH_NAME = 3


class Names:
    """Answers on port 53 of one address until the process ends."""

    def __init__(self, host):
        self._truth = {}
        self._kept = {}
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def set(self, name, addresses):
        """From now on, but for what is still kept. An empty list takes the name away."""
        with self._lock:
            self._truth[name] = list(addresses)

    def _look_up(self, name):
        now = time.monotonic()
        with self._lock:
            since, addresses = self._kept.get(name, (0.0, None))
            if addresses is None or now - since >= KEPT_SECONDS:
                since, addresses = now, self._truth.get(name, [])
                self._kept[name] = since, addresses
        return addresses, max(1, int(KEPT_SECONDS - (now - since)))

    def _serve(self):
        while True:
            query, asker = self._socket.recvfrom(1500)
            try:
                self._socket.sendto(self._answer(query), asker)
            except (IndexError, OSError, UnicodeDecodeError, struct.error):
                continue  # A garbled question, or an asker that is gone.

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii").lower())
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        addresses, seconds = self._look_up(".".join(labels))
        code = 0 if addresses else NO_SUCH_NAME
        shown = addresses if kind in (ADDRESS, ANY) else []
        answers = b"".join(
            struct.pack("!HHHIH", 0xC00C, ADDRESS, 1, seconds, 4) + socket.inet_aton(address)
            for address in shown
        )
        flags = 0x8580 | code
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(shown), 0, 0) + question + answers
