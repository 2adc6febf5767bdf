"""Clients whose bytes cost the server more than they carry, and a normal one: `hostile_clients.py [ROUNDS]`.

Rounds beside hostile clients and beside honest ones, which send as many bytes a second, alternate. The clients are a
process of their own, on another processor than the server. Those that are turned away come again. It ends with status 1
if the normal client's median latency grows to more than MOST_RATIO.
"""

import os
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scenarios.idle_memory import make_certificate
from bench.scenarios.slow_clients import latency, process_of, readable
from bench.subject import free_port, service

ROUNDS = 3
ROUND_SECONDS = 2.0
BYTES_PER_SECOND = 2_000_000
"""Of all clients together."""
PIECE_BYTES = 6000
"""What a client sends at a time."""
READ_BYTES = 256 * 1024
"""What the server reads at a time."""
RECORD_BYTES = 23
"""A TLS record with one byte in it: header, byte, type and tag (RFC 8446 section 5.2)."""
MOST_RATIO = {1: 2.0, 24: 5.0}
"""By the number of hostile clients."""

APPLICATIONS = """\
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""

UPLOAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = bytes(4)


@dataclass(frozen=True)
class Traffic:
    """What a client sends: once after it has connected, and then again and again."""

    begin: bytes
    again: bytes
    in_records: bool = False
    """Whether each byte is a TLS record of its own."""

    @property
    def size(self) -> int:
        """Bytes on the wire of what is sent again and again."""
        return len(self.again) * (RECORD_BYTES if self.in_records else 1)


def _times(piece: bytes) -> bytes:
    return piece * (PIECE_BYTES // len(piece))


def _chunk(size: int) -> bytes:
    return b"%x\r\n%b\r\n" % (size, bytes(size))


HONEST = {
    "upload": Traffic(UPLOAD, _chunk(PIECE_BYTES)),
    "messages": Traffic(WEBSOCKET, b"\x82\xfe%b" % (PIECE_BYTES).to_bytes(2, "big") + _MASK + bytes(PIECE_BYTES)),
    "requests": Traffic(b"", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + bytes([120] * (PIECE_BYTES - 40)) + b"\r\n\r\n"),
}
HOSTILE = {
    "chunks of a byte": ("upload", Traffic(UPLOAD, _times(b"1\r\nx\r\n"))),
    "pings": ("messages", Traffic(WEBSOCKET, _times(b"\x89\x80" + _MASK))),
    "fragments of a byte": ("messages", Traffic(WEBSOCKET + b"\x01\x80" + _MASK, _times(b"\x00\x81" + _MASK + b"x"))),
    "pipelined requests": ("requests", Traffic(b"", _times(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))),
    "TLS records of a byte": ("upload", Traffic(UPLOAD, _chunk(READ_BYTES // RECORD_BYTES), in_records=True)),
}
MODES = {"WSGI on the loop": ("wsgi", 0), "WSGI in threads": ("wsgi", 4), "ASGI": ("asgi", 0)}


@dataclass(frozen=True)
class Attack:
    """A number of hostile clients of a kind, and what they attack."""

    name: str
    mode: str
    count: int
    tls: bool

    def __str__(self) -> str:
        return f"{self.mode}{' over TLS' * self.tls}, {self.count} with {self.name}"


def attacks() -> Iterator[Attack]:
    """Every kind in every mode that it can attack."""
    for name, (honest, hostile) in HOSTILE.items():
        for mode in MODES:
            if honest != "messages" or mode == "ASGI":
                for tls in (True,) if hostile.in_records else (False, True):
                    yield from (Attack(name, mode, count, tls) for count in MOST_RATIO)


def send(port: int, count: int, traffic: Traffic, tls: bool) -> None:
    """Be the clients, until standard input ends."""
    os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
    connect = _connector(port, traffic, tls)
    clients = [connect() for _ in range(count)]
    print("ready", flush=True)
    started, sent = time.monotonic(), 0
    while not readable(sys.stdin.fileno(), max(0.0, started + sent / BYTES_PER_SECOND - time.monotonic())):
        for number, client in enumerate(clients):
            try:
                client.send(traffic.again)
                _drop_what_has_come(client)
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass  # The server does not read for now.
            except OSError:
                client.close()
                clients[number] = connect()
            sent += traffic.size


class Records:
    """A TLS client that sends each byte in a record of its own, many of them at a time."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._encrypted)
        self._left = b""
        self.setblocking = sock.setblocking
        self.recv = sock.recv  # What comes is not read by anyone.
        self.close = sock.close
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._encrypted.read())
                self._received.write(self._socket.recv(65536))
            else:
                return

    def send(self, data: bytes) -> None:
        """Send them, or what is left of those before. Raises OSError."""
        if not self._left:
            for at in range(len(data)):
                self._tls.write(data[at : at + 1])
            self._left = self._encrypted.read()
        self._left = self._left[self._socket.send(self._left) :]


def _connector(port: int, traffic: Traffic, tls: bool) -> Callable[[], Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # It measures a server of its own.

    def connect() -> Any:
        client: Any = socket.create_connection(("127.0.0.1", port))
        if traffic.in_records:
            client = Records(client, context)
        elif tls:
            client = context.wrap_socket(client)
        client.send(traffic.begin)
        client.setblocking(False)
        return client

    return connect


def _drop_what_has_come(client: Any) -> None:
    try:
        while True:
            if not client.recv(65536):
                raise ConnectionError
    except (BlockingIOError, ssl.SSLWantReadError):
        return


def clients(port: int, attack: Attack, *, is_hostile: bool) -> AbstractContextManager[None]:
    """They are there, for the length of the block."""
    arguments = (port, attack.count, attack.name, int(is_hostile), int(attack.tls))
    return process_of("bench.scenarios.hostile_clients", "send", *arguments)


def latencies(port: int, tls: bool) -> list[float]:
    """Of the requests of a round."""
    taken = []
    with _connector(port, Traffic(b"", b""), tls)() as client:
        client.settimeout(60)
        end = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < end:
            taken.append(latency(client))
    return taken


def measure(attack: Attack, rounds: int) -> float:
    """The ratio of the medians, beside hostile and beside honest clients."""
    beside: dict[bool, list[float]] = {False: [], True: []}
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with tempfile.TemporaryDirectory() as directory, attacked(Path(directory), attack) as port:
            for _ in range(rounds):
                for is_hostile in (False, True):
                    with clients(port, attack, is_hostile=is_hostile):
                        beside[is_hostile] += latencies(port, attack.tls)
    finally:
        os.sched_setaffinity(0, allowed)
    hostile, honest = statistics.median(beside[True]), statistics.median(beside[False])
    print(f"{attack}: median {hostile * 1e6:.0f} us, beside honest ones {honest * 1e6:.0f} us", flush=True)
    return hostile / honest


@contextmanager
def attacked(directory: Path, attack: Attack) -> Iterator[int]:
    """A service for the length of the block. Gives its port."""
    (directory / "told.py").write_text(APPLICATIONS)
    application, threads = MODES[attack.mode]
    settings: dict[str, Any] = {"app": f"told:{application}", "threads": threads, "workers": 1}
    settings["limits"] = {"body": "1T"}
    port = free_port()
    if attack.tls:
        settings["tls"] = {"listen": [f"127.0.0.1:{port}"], "certificate": str(make_certificate(directory))}
    with service(directory, **settings) as subject:
        yield port if attack.tls else subject.port


def main(rounds: int) -> int:
    """Measure everything; the exit status."""
    ratios = [(measure(each, rounds), MOST_RATIO[each.count]) for each in attacks()]
    return int(any(ratio > most for ratio, most in ratios))


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        port, count, name, is_hostile, tls = sys.argv[2:]
        honest, hostile = HOSTILE[name]
        send(int(port), int(count), hostile if int(is_hostile) else HONEST[honest], bool(int(tls)))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS))
