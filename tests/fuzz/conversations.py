"""Hostile conversations with an engine over real sockets: each response belongs to its request, and only to it.

The reference says which requests a stream holds; the application answers each with a digest of what it was asked, in
ways that differ; the client takes the responses apart as strictly as it can.
"""

import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import unquote_to_bytes

from clusterd.http.settings import Interface
from tests.fuzz.mutation import corpus, mutated, pieces
from tests.fuzz.reference import End, Request, read
from tests.support.serving import PATIENCE, Serving, request, serving

CLIENTS = 4
"""At the same time, so that a response could go astray."""

EXCUSED = "more than its Content-Length"
"""What one of the application's ways is meant to provoke."""

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"

EXCESS = b"none of this may ever be seen"


@dataclass(frozen=True)
class Kind:
    """How an application is called."""

    name: str
    threads: int
    interface: Interface


KINDS = (
    Kind("wsgi-loop", 0, Interface.WSGI),
    Kind("wsgi-threads", 3, Interface.WSGI),
    Kind("asgi", 0, Interface.ASGI),
)


class Astray(AssertionError):
    """The finding: a response, or a part of one, where it does not belong."""


# ---- the application


def token(method: bytes, path: bytes, query: bytes, host: bytes, body: bytes) -> bytes:
    """What identifies a request, and says whether any of it came from another one."""
    parts = (method, path, query, host, body)
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest().encode()


def way_of(mark: bytes) -> int:
    """One of the ways to answer."""
    return mark[0] % 5


def body_of(mark: bytes) -> bytes:
    """Of the response: short, or longer than the server holds at a time."""
    return mark * (1 + mark[1] % 3 * 700)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answers with the token."""
    path = environ["PATH_INFO"].encode("latin-1")
    host = environ.get("HTTP_HOST", "").encode("latin-1")
    query = environ["QUERY_STRING"].encode("latin-1")
    mark = token(environ["REQUEST_METHOD"].encode(), path, query, host, environ["wsgi.input"].read())
    body = body_of(mark)
    headers = [("X-Token", mark.decode())]
    match way_of(mark):
        case 0:
            start_response("200 OK", headers)
            return [body]
        case 1:
            start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
            return [body[:100], b"", body[100:]]
        case 2:
            start_response("200 OK", headers)
            return (piece for piece in (body[:40], b"", body[40:]))
        case 3:
            start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
            return iter([body, EXCESS])
        case _:
            write = start_response("200 OK", headers)
            write(body[:50])
            return [body[50:]]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answers with the token."""
    content = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        content += message["body"]
        more = message["more_body"]
    host = dict(scope["headers"]).get(b"host", b"")
    path = scope["path"].encode()
    mark = token(scope["method"].encode(), path, scope["query_string"], host, content)
    body = body_of(mark)
    headers = [(b"x-token", mark)]
    length = [(b"content-length", b"%d" % len(body))]

    async def respond(headers: list[tuple[bytes, bytes]], *parts: bytes) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    match way_of(mark):
        case 0:
            await respond(headers, body)
        case 1:
            await respond([*headers, *length], body[:100], b"", body[100:])
        case 2:
            await respond(headers, body[:40], b"", body[40:], b"")
        case 3:
            await respond([*headers, *length], body, EXCESS)
        case _:
            await respond([*headers, *length], body + EXCESS)


# ---- the client


class Answers:
    """What came back, taken apart."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._at = 0

    @property
    def rest(self) -> bytes:
        """What was not looked at yet."""
        return self.data[self._at :]

    def next(self, *, bodiless: bool) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body; interim responses are passed over. Raises Astray."""
        self.pass_interim()
        status, fields = self._head()
        if bodiless:
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, b"".join(iter(self._chunk, b""))
        if "content-length" in fields:
            return status, fields, self._take(int(fields["content-length"]))
        return status, fields, self._take(len(self.rest))

    def pass_interim(self) -> None:
        """Go beyond what only invites the client to go on."""
        while self.data.startswith(INTERIM, self._at):
            self._at += len(INTERIM)

    def _take(self, size: int) -> bytes:
        data = self.data[self._at : self._at + size]
        if len(data) < size:
            raise Astray(f"{size} bytes were promised, and {data!r} was all")
        self._at += size
        return data

    def _line(self) -> bytes:
        end = self.data.find(b"\r\n", self._at)
        if end < 0:
            raise Astray(f"no line where one belongs: {self.rest[:200]!r}")
        line = self.data[self._at : end]
        self._at = end + 2
        return line

    def _head(self) -> tuple[int, dict[str, str]]:
        first = self._line()
        if not first.startswith(b"HTTP/1.1 ") or b"\n" in first:
            raise Astray(f"no status line: {first[:200]!r}")
        fields = {}
        while line := self._line():
            name, separator, value = line.decode("latin-1").partition(": ")
            if not separator:
                raise Astray(f"no field: {line!r}")
            fields[name.lower()] = value
        return int(first[9:12]), fields

    def _chunk(self) -> bytes:
        data = self._take(int(self._line(), 16))
        if self._line():
            raise Astray("a chunk longer than its size")
        return data


def converse(address: tuple[str, int], parts: Iterable[bytes]) -> bytes | None:
    """Send the pieces, half-close, and read until the server closes; None where it has reset the connection."""
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        try:
            for part in parts:
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all was sent: what came back is looked at all the same
        received = b""
        try:
            while data := sock.recv(1 << 18):
                received += data
        except ConnectionResetError:
            return None
        return received


def marks_of(request: Request) -> tuple[bytes, ...]:
    """The tokens that may answer: WSGI and ASGI differ in what a path that is not UTF-8 looks like."""
    target = request.target
    if not target.startswith((b"/", b"*")):
        rest = target.partition(b"://")[2]
        cut = min((rest.index(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
        target = rest[cut:] if rest[cut:].startswith(b"/") else b"/" + rest[cut:]
    path, _, query = target.partition(b"?")
    host = request.fields.get(b"host", b"")
    raw = unquote_to_bytes(path)
    return tuple(
        token(request.method, each, query, host, request.body)
        for each in (raw, raw.decode("utf-8", "replace").encode())
    )


def check(sent: bytes, received: bytes | None, server: Serving) -> int:
    """Compare with what the reference sees in the stream; the number of requests. Raises Astray."""
    expected = read(sent, server.engine.settings.limits, server.engine.settings.underscores.value)
    if received is None:
        # Nobody lingers for a client that has asked for the close, and sends more all the same.
        if all(each.persists for each in expected.requests):
            raise Astray(f"{sent!r}: the connection was reset")
        return len(expected.requests)
    answers = Answers(received)
    if EXCESS in received:
        raise Astray(f"{sent!r}: what is too much was sent")
    for number, each in enumerate(expected.requests, 1):
        status, fields, body = answers.next(bodiless=each.method == b"HEAD")
        mark = fields.get("x-token", "").encode()
        if status != 200 or mark not in marks_of(each):
            raise Astray(f"{sent!r}: request {number} was answered {status}, {fields}, {body[:200]!r}")
        if each.method != b"HEAD" and body != body_of(mark):
            raise Astray(f"{sent!r}: the body of response {number} is not its own: {body[:200]!r}")
        if fields.get("connection") == "close":
            if answers.rest:
                raise Astray(f"{sent!r}: after the last response came {answers.rest[:200]!r}")
            return number
        if not each.persists:
            raise Astray(f"{sent!r}: request {number} was the last, and its response says nothing of it")
    answers.pass_interim()
    if answers.rest:
        # The refusal of a HEAD has no body.
        status, fields, _ = answers.next(bodiless=answers.rest.endswith(b"\r\n\r\n"))
        if not 400 <= status < 600 or status == 500 or fields.get("connection") != "close" or answers.rest:
            raise Astray(f"{sent!r}: instead of a refusal came {answers.data[-400:]!r}")
        if expected.end is End.NOTHING_MORE:
            raise Astray(f"{sent!r}: a good stream was refused with {status}")
    return len(expected.requests)


# ---- both together


class Conversations:
    """Streams to one engine, some at the same time; the same ones for the same seed."""

    def __init__(self, server: Serving, seed: int) -> None:
        self._server = server
        self._seeds = corpus()
        self._dice = [Random(f"{seed}/{number}") for number in range(CLIENTS)]
        self._numbers = [0] * CLIENTS
        self._pool = ThreadPoolExecutor(CLIENTS)
        self.streams = 0
        self.requests = 0

    def round(self) -> None:
        """A stream from each client, and a normal request afterwards. Raises Astray."""
        for answered in self._pool.map(self._stream, range(CLIENTS)):
            self.requests += answered
            self.streams += 1
        with self._server.client() as client:
            if client.get("/afterwards").status != 200:
                raise Astray("a normal request was not answered")
        errors = [error for error in self._server.ledger.errors if EXCUSED not in error]
        if errors or self._server.faults:
            raise Astray(f"the server said {errors}, {self._server.faults}")

    def _stream(self, number: int) -> int:
        dice = self._dice[number]
        parts = []
        for _ in range(dice.randint(1, 4)):
            self._numbers[number] += 1
            name = f"/client{number}/{self._numbers[number]}"
            match dice.randrange(4):
                case 0:
                    parts.append(request(name))
                case 1:
                    parts.append(request(name, method="POST", body=name.encode() * dice.choice((1, 9, 9000))))
                case _:
                    parts.append(mutated(dice, self._seeds))
        sent = b"".join(parts)
        return check(sent, converse(self._server.address, pieces(dice, sent)), self._server)

    def close(self) -> None:
        """End the clients."""
        self._pool.shutdown()


@contextmanager
def conversations(kind: Kind, seed: int) -> Iterator[Conversations]:
    """With an engine for this kind of application."""
    application = asgi if kind.interface is Interface.ASGI else wsgi
    with serving(application, kind.threads, interface=kind.interface, limits={"body": 1 << 20}) as server:
        talks = Conversations(server, seed)
        try:
            yield talks
        finally:
            talks.close()
