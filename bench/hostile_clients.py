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

from bench.idle_memory import make_certificate
from bench.slow_clients import latency, process_of, readable
from bench.subject import free_port, service

ROUNDS = 3
ROUND_SECONDS = 2.0
BYTES_PER_SECOND = 2_000_000
"""Of all clients together."""
PIECE_BYTES = 6000
"""What a client sends at a time."""
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


def _times(piece: bytes) -> bytes:
    return piece * (PIECE_BYTES // len(piece))


HONEST = {
    "upload": Traffic(UPLOAD, b"%x\r\n%b\r\n" % (PIECE_BYTES, bytes(PIECE_BYTES))),
    "messages": Traffic(WEBSOCKET, b"\x82\xfe%b" % (PIECE_BYTES).to_bytes(2, "big") + _MASK + bytes(PIECE_BYTES)),
    "requests": Traffic(b"", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + bytes([120] * (PIECE_BYTES - 40)) + b"\r\n\r\n"),
}
HOSTILE = {
    "chunks of a byte": ("upload", Traffic(UPLOAD, _times(b"1\r\nx\r\n"))),
    "pings": ("messages", Traffic(WEBSOCKET, _times(b"\x89\x80" + _MASK))),
    "fragments of a byte": ("messages", Traffic(WEBSOCKET + b"\x01\x80" + _MASK, _times(b"\x00\x81" + _MASK + b"x"))),
    "pipelined requests": ("requests", Traffic(b"", _times(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))),
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
    for name, (honest, _) in HOSTILE.items():
        for mode in MODES:
            if honest != "messages" or mode == "ASGI":
                for tls in (False, True):
                    yield from (Attack(name, mode, count, tls) for count in MOST_RATIO)


def send(port: int, count: int, traffic: Traffic, tls: bool) -> None:
    """Be the clients, until standard input ends."""
    os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
    connect = _connector(port, traffic.begin, tls)
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
            sent += len(traffic.again)


def _connector(port: int, begin: bytes, tls: bool) -> Callable[[], socket.socket]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # It measures a server of its own.

    def connect() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port))
        if tls:
            client = context.wrap_socket(client)
        client.sendall(begin)
        client.setblocking(False)
        return client

    return connect


def _drop_what_has_come(client: socket.socket) -> None:
    try:
        while True:
            if not client.recv(65536):
                raise ConnectionError
    except (BlockingIOError, ssl.SSLWantReadError):
        return


def clients(port: int, attack: Attack, *, is_hostile: bool) -> AbstractContextManager[None]:
    """They are there, for the length of the block."""
    arguments = (port, attack.count, attack.name, int(is_hostile), int(attack.tls))
    return process_of("bench.hostile_clients", "send", *arguments)


def latencies(port: int, tls: bool) -> list[float]:
    """Of the requests of a round."""
    taken = []
    with _connector(port, b"", tls)() as client:
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
