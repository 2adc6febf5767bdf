"""Requests at a constant rate, whatever becomes of the answers: `arrivals.py PORT RATE SECONDS PATH [SLOW_PATH]`.

A program of its own; one request in a hundred is for SLOW_PATH. The latency counts from the moment at which a request
was due and not from that at which it was sent, so a server that stalls is charged with all that waited meanwhile. It
prints the latencies of the requests that are not slow, as JSON, in seconds.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass

CONNECTIONS = 100
SLOW_ONE_IN = 100
PATIENCE_SECONDS = 30.0


def latencies(port: int, rate: float, seconds: int, path: str, slow_path: str = "") -> list[float]:
    """What such a load saw: of so many requests a second, for so many seconds."""
    command = [sys.executable, __file__, str(port), str(rate), str(seconds), path, *([slow_path] if slow_path else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


@dataclass(eq=False)
class Client:
    """A kept-alive connection with one request under way at most."""

    port: int
    due: float = 0.0
    is_slow: bool = False
    _received: bytes = b""

    def __post_init__(self) -> None:
        self._connect()

    def fileno(self) -> int:
        """Of its connection."""
        return self._sock.fileno()

    def ask(self, path: str, due: float, *, is_slow: bool) -> None:
        """Begin a request."""
        self.due, self.is_slow, self._received = due, is_slow, b""
        request = b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path.encode()
        if self._has_ended():
            self._connect()
        self._sock.sendall(request)

    def answered(self) -> bool:
        """Whether all of the answer is here. Raises AssertionError if it is none that counts."""
        received = self._sock.recv(65536)
        self._received += received
        head, _, body = self._received.partition(b"\r\n\r\n")
        if not received or not self._received.startswith(b"HTTP/1.1 200 "[: len(self._received)]):
            raise AssertionError(f"no answer: {self._received[:200]!r}")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        return bool(length) and len(body) >= int(length)

    def _connect(self) -> None:
        self._sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _has_ended(self) -> bool:
        """A server may close a connection that is idle."""
        readable, _, _ = select.select([self._sock], [], [], 0)
        if readable:
            self._sock.close()
        return bool(readable)


def measure(port: int, rate: float, seconds: float, path: str, slow_path: str = "") -> list[float]:
    """Ask, each request when it is due, as long as there is a connection that is free."""
    free, busy = deque(Client(port) for _ in range(CONNECTIONS)), set[Client]()
    found, asked, count = [], 0, int(rate * seconds)
    begun = time.perf_counter()
    while busy or asked < count:
        now = time.perf_counter()
        while asked < count and free and (due := begun + asked / rate) <= now:
            is_slow = bool(slow_path) and asked % SLOW_ONE_IN == SLOW_ONE_IN // 2
            client = free.popleft()
            client.ask(slow_path if is_slow else path, due, is_slow=is_slow)
            busy.add(client)
            asked += 1
        wait = max(0.0, begun + asked / rate - now) if asked < count and free else PATIENCE_SECONDS
        readable, _, _ = select.select(busy, [], [], wait)
        if not readable and wait == PATIENCE_SECONDS:
            raise AssertionError(f"no answer within {PATIENCE_SECONDS:g} s")
        for client in readable:
            if client.answered():
                if not client.is_slow:
                    found.append(time.perf_counter() - client.due)
                busy.remove(client)
                free.append(client)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])))
