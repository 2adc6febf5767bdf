"""Clients of every kind at random stages, who check every byte that they get and every end that they meet."""

import asyncio
import socket
import ssl
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from random import Random
from typing import Any

from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tests.support.certificates import NAME

PATIENCE_SECONDS = 25.0
MOST_PAUSE = 0.8
RESTART_CODE = 1012
STORY_LINES = 60
"""Of what a client did last."""
NEVER_SENT = "between two requests: it had ended before this one was sent"
"""How a connection ended of which a client has seen the end in time: nothing is lost."""

PAGES = """
import os, zlib

def piece(token, number, size):
    text = f"{token} {number}\\n".encode()
    return (text * (size // len(text) + 1))[:size]

def echoed(token, size, body):
    return f"{token} {len(body)} {zlib.crc32(body)}".encode() + bytes(size)

def prepare():
    if BROKEN and os.environ["CLUSTERD_WORKER"] == "2":
        raise RuntimeError("this one is not for service")
"""
"""What all applications say: by `/KIND/TOKEN/MILLISECONDS/SIZE[/PIECES]`, each piece after a pause."""

WSGI = (
    PAGES
    + """
import time

def app(environ, start_response):
    kind, token, pause, size, *pieces = environ["PATH_INFO"][1:].split("/")
    pause, size = float(pause) / 1000, int(size)
    body = environ["wsgi.input"].read()
    if kind == "echo":
        time.sleep(pause)
        answer = echoed(token, size, body)
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]
    count = int(pieces[0])
    length = [("Content-Length", str(count * size))] if kind == "download" else []
    start_response("200 OK", [("Content-Type", "text/event-stream"), *length])
    return pieces_of(token, pause, size, count)

def pieces_of(token, pause, size, count):
    for number in range(count):
        time.sleep(pause)
        yield piece(token, number, size)
"""
)

ASGI = (
    PAGES
    + """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        return await talk(receive, send)
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    kind, token, pause, size, *pieces = scope["path"][1:].split("/")
    pause, size = float(pause) / 1000, int(size)
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    if kind == "echo":
        await asyncio.sleep(pause)
        answer = echoed(token, size, body)
        length = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": answer})
        return
    count = int(pieces[0])
    length = [(b"content-length", str(count * size).encode())] if kind == "download" else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    for number in range(count):
        await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": piece(token, number, size), "more_body": True})
    await send({"type": "http.response.body", "body": b""})

async def talk(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
"""
)


def piece(token: str, number: int, size: int) -> bytes:
    """As the applications make it."""
    text = f"{token} {number}\n".encode()
    return (text * (size // len(text) + 1))[:size]


def echoed(token: str, size: int, body: bytes) -> bytes:
    """As the applications make it."""
    return f"{token} {len(body)} {zlib.crc32(body)}".encode() + bytes(size)


@dataclass(frozen=True)
class Loss:
    """A connection that ended though its client had not asked for that."""

    client: str
    port: int
    """The client's, by which the server knows the connection."""
    token: str
    """Of the request that was not answered, or not to its end; empty between two requests."""
    how: str
    secure: bool = False
    has_begun: bool = False
    """Whether something of the response had come, but not all."""
    was_told: bool = False
    """Whether the response before it had said that it is the last of its connection (RFC 9112 section 9.6)."""
    story: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What its client did and saw, in lines that begin with the time like the server's."""


class _EndedError(Exception):
    """The connection has ended where it should not have."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, port: int, secure: bool) -> None:
        self._reader = reader
        self.writer = writer
        self.secure = secure
        self.token = ""
        self.has_begun = False
        """Whether something of the response has come."""
        self.may_end = False
        """Whether its client would not mind."""
        self.is_last = False
        """Whether the server has said that the response is its connection's last."""
        self.port = port
        self.story: deque[str] = deque(maxlen=STORY_LINES)
        self.note("connected")

    def note(self, what: str) -> None:
        """Remember what happens, for the story of a loss."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]
        ended = ", having seen an end" if self._reader.at_eof() else ""
        self.story.append(f"{now}Z client: {what}{ended} token={self.token} port={self.port}")

    async def send(self, data: bytes, cuts: list[int] | None = None, pause: float = 0.0) -> None:
        """A request, in pieces that begin at `cuts`, each but the first after a pause."""
        self.has_begun = False
        if self._reader.at_eof():
            raise _EndedError(NEVER_SENT)
        places = [0, *sorted(cuts or []), len(data)]
        for number, (begin, end) in enumerate(pairwise(places)):
            if number and pause:
                await asyncio.sleep(pause)
            self.writer.write(data[begin:end])
            self.note(f"sent {begin}..{end} of {len(data)}")
            await self._checked(self.writer.drain())

    async def pause(self, seconds: float) -> None:
        """Nothing may be heard meanwhile, least of all an end."""
        self.has_begun = False
        try:
            early = await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return
        except OSError as error:
            raise _EndedError(f"between two requests: {error!r}") from error
        if early:
            raise AssertionError(f"bytes that nobody has asked for: {early!r}")
        raise _EndedError("between two requests")

    async def expect(self, parts: list[bytes], rests: float = 0.0, fields: bytes = b"") -> None:
        """A response whose body has these parts; `rests` before each is read."""
        self.has_begun = False
        head = await self._checked(self._reader.readuntil(b"\r\n\r\n"))
        self.has_begun = True
        self.note("got a head")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
        lower = head.lower()
        self.is_last = b"\r\nconnection: close\r\n" in lower
        chunked = b"\r\ntransfer-encoding: chunked\r\n" in lower
        body = b"".join(parts)
        if chunked:
            await self._expect_chunks(body, rests)
        else:
            if b"\r\ncontent-length: " in lower:
                length = int(lower.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
                assert length == len(body), head
            for part in parts:
                await asyncio.sleep(rests)
                got = await self._checked(self._reader.readexactly(len(part)))
                assert got == part, (got[:60], part[:60])

    async def _expect_chunks(self, body: bytes, rests: float) -> None:
        at = 0
        while size := int(await self._checked(self._reader.readuntil(b"\r\n")), 16):
            await asyncio.sleep(rests)
            chunk = await self._checked(self._reader.readexactly(size + 2))
            assert chunk == body[at : at + size] + b"\r\n", (chunk[:60], body[at : at + 60])
            at += size
        assert await self._checked(self._reader.readexactly(2)) == b"\r\n"
        assert at == len(body)

    def loss(self, client: str, error: Exception) -> Loss:
        """What its client has lost with it."""
        how, story = str(error), tuple(self.story)
        return Loss(client, self.port, self.token, how, self.secure, self.has_begun, self.is_last, story)

    async def end(self) -> None:
        """Nothing more comes, and the server closes."""
        rest = await self._checked(self._reader.read())
        assert rest == b"", rest

    async def invitation(self) -> None:
        """To go on with the body."""
        head = await self._checked(self._reader.readuntil(b"\r\n\r\n"))
        assert head == b"HTTP/1.1 100 Continue\r\n\r\n", head

    async def _checked(self, reading: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(reading, PATIENCE_SECONDS)
        except asyncio.IncompleteReadError as error:
            raise _EndedError(f"after {error.partial[-60:]!r}") from error
        except OSError as error:
            raise _EndedError(repr(error)) from error
        except TimeoutError:
            raise _EndedError("nothing came") from None


class Crowd:
    """The clients. Where the application is `slow` it waits now and then, which on a loop would hold up everybody."""

    def __init__(self, port: int, tls_port: int, tls: ssl.SSLContext, seed: int, *, slow: bool, talks: bool) -> None:
        self._port = port
        self._tls_port = tls_port
        self._tls = tls
        self._most_milliseconds = 40 if slow else 0
        self._over = False
        self._number = 0
        self.losses: list[Loss] = []
        self.wrong: list[str] = []
        self.answered: Counter[str] = Counter()
        kinds: list[tuple[Callable[[_Connection, Random], Awaitable[None]], int]] = [
            (self.kept, 6),
            (self.pipelined, 4),
            (self.idle, 4),
            (self.half, 4),
            (self.upload, 3),
            (self.download, 4),
            (self.events, 2),
            (self.fresh, 2),
        ]
        clients = [self._keeps_asking(kind, self._random(seed, n), secure=False) for kind, n in _each(kinds)]
        for kind in (self.kept, self.half, self.upload, self.download, self.waits_for_the_end):
            clients.append(self._keeps_asking(kind, self._random(seed, len(clients)), secure=True))
        if talks:
            clients += [self._keeps_talking(self._random(seed, 100 + n)) for n in range(4)]
        self._clients = [asyncio.create_task(client) for client in clients]

    @staticmethod
    def _random(seed: int, number: int) -> Random:
        return Random(f"{seed} {number}")

    async def end(self) -> None:
        """Let every client finish what it is about."""
        self._over = True
        await asyncio.wait_for(asyncio.gather(*self._clients), 2 * PATIENCE_SECONDS)

    async def _keeps_asking(
        self, kind: Callable[[_Connection, Random], Awaitable[None]], random: Random, *, secure: bool
    ) -> None:
        name = f"{kind.__name__}{' over TLS' if secure else ''}"
        await asyncio.sleep(random.uniform(0, 0.3))
        while not self._over:
            try:
                connection = await self._connect(random, secure=secure)
            except (OSError, TimeoutError) as error:
                self.wrong.append(f"{name}: no connection: {error!r}")
                return
            if connection is None:
                continue
            try:
                while not self._over and not connection.is_last:
                    await kind(connection, random)
                    self.answered[name] += 1
                    assert connection.secure or kind == self.fresh or not connection.is_last, "told to come again"
                if connection.is_last:
                    await connection.end()
            except _EndedError as error:
                if not (secure and connection.may_end):
                    connection.note(f"lost: {error}")
                    self.losses.append(connection.loss(name, error))
            except (AssertionError, ValueError) as error:
                self.wrong.append(f"{name}: {connection.token}: {error}")
            finally:
                connection.writer.close()

    async def _connect(self, random: Random, *, secure: bool) -> _Connection | None:
        sock = socket.socket()
        sock.setblocking(False)
        if random.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._tls_port if secure else self._port))
        opened = asyncio.open_connection(
            sock=sock, ssl=self._tls if secure else None, server_hostname=NAME if secure else None
        )
        port: int = sock.getsockname()[1]
        try:
            return _Connection(*await asyncio.wait_for(opened, PATIENCE_SECONDS), port=port, secure=secure)
        except (OSError, TimeoutError) as error:
            self.losses.append(Loss("handshake", port, "", repr(error), secure))
            return None

    def _token(self) -> str:
        self._number += 1
        return f"t{self._number}t"

    def _echo(self, random: Random, *fields: bytes) -> tuple[str, bytes, bytes]:
        """A request and the body of its answer."""
        token, size = self._token(), random.choice((0, 10, 1000, 20_000))
        body = random.randbytes(random.choice((0, 0, 5, 3000)))
        pause = random.randrange(self._most_milliseconds + 1)
        head = [b"POST /echo/%b/%d/%d HTTP/1.1" % (token.encode(), pause, size), b"Host: x", *fields]
        head.append(b"Content-Length: %d" % len(body))
        return token, b"\r\n".join([*head, b"", body]), echoed(token, size, body)

    # ---- the kinds of clients: each asks once, or a few times

    async def kept(self, connection: _Connection, random: Random) -> None:
        """Asks again and again."""
        connection.token, data, body = self._echo(random)
        await connection.send(data)
        await connection.expect([body])
        connection.token = ""
        if not connection.is_last:
            await connection.pause(random.choice((0.001, 0.02, 0.1)))

    async def pipelined(self, connection: _Connection, random: Random) -> None:
        """Does not wait for one answer before it sends the next request."""
        asked = [self._echo(random) for _ in range(random.randrange(2, 8))]
        data = b"".join(request for _, request, _ in asked)
        cuts = [random.randrange(1, len(data)) for _ in range(random.randrange(4))]
        sending = asyncio.create_task(connection.send(data, cuts, random.choice((0.0, 0.05))))
        try:
            for connection.token, _, body in asked:
                await connection.expect([body], random.choice((0.0, 0.02)))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        connection.token = ""

    async def idle(self, connection: _Connection, random: Random) -> None:
        """Mostly says nothing, also before its first request."""
        await connection.pause(random.uniform(0.1, 2 * MOST_PAUSE))
        await self.kept(connection, random)

    async def half(self, connection: _Connection, random: Random) -> None:
        """Sends a part of a request, and takes its time."""
        connection.token, data, body = self._echo(random)
        cuts = [random.randrange(1, len(data)) for _ in range(2)]
        await connection.send(data, cuts, random.uniform(0.05, MOST_PAUSE))
        await connection.expect([body])
        connection.token = ""

    async def upload(self, connection: _Connection, random: Random) -> None:
        """A body that comes slowly, and may wait for an invitation."""
        body = random.randbytes(random.choice((20_000, 200_000)))
        connection.token = self._token()
        chunked, invited = random.random() < 0.5, random.random() < 0.3
        data = body
        if chunked:
            chunks = [body[at : at + 7000] for at in range(0, len(body), 7000)]
            data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        head = b"PUT /echo/%b/0/0 HTTP/1.1\r\nHost: x\r\n%b\r\n" % (connection.token.encode(), framing)
        await connection.send(head + (b"Expect: 100-continue\r\n\r\n" if invited else b"\r\n"))
        if invited:
            await connection.invitation()
        cuts = [random.randrange(1, len(data)) for _ in range(random.randrange(12))]
        await connection.send(data, cuts, random.uniform(0.02, 0.12))
        await connection.expect([echoed(connection.token, 0, body)])
        connection.token = ""

    async def download(self, connection: _Connection, random: Random) -> None:
        """A large response, read slowly."""
        size, pieces = random.choice(((10_000, 20), (60_000, 25), (1000, 10)))
        await self._stream(connection, random, "download", size, pieces)
        if random.random() < 0.5 and not connection.is_last:
            await self.kept(connection, random)

    async def events(self, connection: _Connection, random: Random) -> None:
        """Server-sent events: small and many."""
        await self._stream(connection, random, "events", 100, random.randrange(20, 60))

    async def _stream(self, connection: _Connection, random: Random, kind: str, size: int, pieces: int) -> None:
        connection.token = self._token()
        pause = random.randrange(self._most_milliseconds + 1)
        asked = f"GET /{kind}/{connection.token}/{pause}/{size}/{pieces} HTTP/1.1\r\nHost: x\r\n\r\n"
        await connection.send(asked.encode())
        parts = [piece(connection.token, number, size) for number in range(pieces)]
        await connection.expect(parts, random.choice((0.0, 0.0, 0.04)))
        connection.token = ""

    async def fresh(self, connection: _Connection, random: Random) -> None:
        """A connection for one request, and a large answer now and then."""
        if random.random() < 0.5:
            connection.token, data, body = self._echo(random, b"Connection: close")
            await connection.send(data)
            await connection.expect([body])
        else:
            connection.token, size, pieces = self._token(), 60_000, 20
            target = f"/download/{connection.token}/0/{size}/{pieces}"
            await connection.send(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            await connection.expect([piece(connection.token, number, size) for number in range(pieces)], 0.03)
        connection.token = ""
        assert connection.is_last

    async def waits_for_the_end(self, connection: _Connection, random: Random) -> None:
        """Asks once, and then never again."""
        await self.kept(connection, random)
        connection.may_end = True
        while not (self._over or connection.is_last):
            await connection.pause(0.2)

    async def _keeps_talking(self, random: Random) -> None:
        """A WebSocket, which cannot move: it is told to come again."""
        await asyncio.sleep(random.uniform(0, 0.3))
        while not self._over:
            sock = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", self._port), PATIENCE_SECONDS)
            port: int = sock.getsockname()[1]
            is_open = False
            try:
                uri = f"ws://127.0.0.1:{self._port}/"
                async with connect_websocket(uri, sock=sock, open_timeout=PATIENCE_SECONDS) as websocket:
                    is_open = True
                    while not self._over:
                        said = self._token() * random.choice((1, 1000))
                        await websocket.send(said)
                        assert await asyncio.wait_for(websocket.recv(), PATIENCE_SECONDS) == said
                        self.answered["websocket"] += 1
                        await asyncio.sleep(random.choice((0.001, 0.1)))
            except ConnectionClosed as error:
                if error.rcvd is None or error.rcvd.code != RESTART_CODE:
                    self.losses.append(Loss("websocket", port, "", repr(error)))
            except Exception as error:
                if is_open:
                    self.wrong.append(f"websocket: {error!r}")
                else:
                    self.losses.append(Loss("websocket", port, "", f"handshake: {error!r}"))


def _each(kinds: list[tuple[Callable[[_Connection, Random], Awaitable[None]], int]]) -> Any:
    numbers = count()
    return [(kind, next(numbers)) for kind, how_many in kinds for _ in range(how_many)]
