"""An engine on a uvloop loop in a thread of the test, with listening sockets and nothing else around it."""

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import uvloop

from clusterd.http.connections.stage import Stage
from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.http.in_hand import InHand
from clusterd.http.ports import RefusedFor, TimedOut
from clusterd.http.settings import HttpSettings
from clusterd.log import Level
from clusterd.wire.in_hand import TABLE_BYTES, movable_descriptors
from tests.support.settings import http_settings
from tests.support.settings import limits as limits_of
from tests.support.settings import timeouts as timeouts_of

PATIENCE = 20.0


class Ledger:
    """Counters and log in one: what the engine said."""

    def __init__(self) -> None:
        self.is_debugging = False
        self.done: list[int] = []
        """The status of each response, refused requests included."""
        self.waited: list[float] = []
        """How long each request waited for the application, as far as it got there."""
        self.refused: Counter[str] = Counter()
        self.timeouts: Counter[str] = Counter()
        self.aborts = 0
        self.handshake_failures = 0
        self.in_flight = 0
        self.jobs = 0
        self.connections = 0
        self.websockets = 0
        self.errors: list[str] = []
        self.error_fields: list[dict[str, object]] = []
        self.warnings: list[tuple[str, dict[str, object]]] = []
        self.details: list[str] = []
        self.requests: list[dict[str, object]] = []

    def request_begun(self) -> None:
        self.in_flight += 1

    def request_done(self, status: int, seconds: float, waited: float) -> None:
        assert 0 <= seconds < 60
        assert waited == -1 or 0 <= waited <= seconds
        self.done.append(status)
        if waited >= 0:
            self.waited.append(waited)
        self.request_dropped()

    def request_dropped(self) -> None:
        self.in_flight -= 1
        assert self.in_flight >= 0

    def jobs_changed(self, count: int) -> None:
        self.jobs = count

    def request_refused(self, reason: RefusedFor, status: int) -> None:
        self.refused[reason] += 1
        if status:
            self.refusal_sent(status)

    def refusal_sent(self, status: int) -> None:
        self.done.append(status)

    def timed_out(self, kind: TimedOut) -> None:
        self.timeouts[kind] += 1

    def client_aborted(self) -> None:
        self.aborts += 1

    def handshake_failed(self) -> None:
        self.handshake_failures += 1

    def connections_changed(self, count: int) -> None:
        self.connections = count

    def websockets_changed(self, count: int) -> None:
        self.websockets = count

    def error(self, message: str, /, **fields: object) -> None:
        self.errors.append(message)
        self.error_fields.append(fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self.warnings.append((message, fields))

    def request(self, level: Level, message: str, alike: str, fields: Mapping[str, object] | None = None) -> None:
        self.requests.append({"level": level, "message": message, "alike": alike, **(fields or {})})

    def debug(self, message: str, /, **fields: object) -> None:
        self.details.append(message)


class CountingLoop(uvloop.Loop):
    """Counts the connections that it is given."""

    entered = 0

    async def connect_accepted_socket(self, *arguments: Any, **options: Any) -> Any:
        self.entered += 1
        return await super().connect_accepted_socket(*arguments, **options)


class Serving:
    """An engine that serves `application` on 127.0.0.1, and on more sockets when asked."""

    def __init__(
        self,
        application: Any,
        settings: HttpSettings,
        on_movable: Callable[[Connection], None] | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.ledger = Ledger()
        self._listeners: list[socket.socket] = []
        self.loop = CountingLoop()
        self.has_no_room = False
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self._in_hand = memoryview(bytearray(TABLE_BYTES))
        callbacks = Callbacks(on_movable=on_movable, in_hand=InHand(self._in_hand))
        self.engine = Engine(application, settings, self.ledger, self.ledger, self.loop, callbacks, tls)
        self._scheme = "https" if tls else "http"
        self.thread = threading.Thread(target=self._run)
        self.address = self._listen(socket.create_server(("127.0.0.1", 0)))
        self._tick()
        self.thread.start()

    def _listen(self, listener: socket.socket) -> Any:
        listener.setblocking(False)
        self._listeners.append(listener)
        self.loop.add_reader(listener.fileno(), self._accept, listener)
        return listener.getsockname()

    def _accept(self, listener: socket.socket) -> None:
        try:
            take = self.engine.shed if self.has_no_room else self.engine.adopt
            take(listener.accept()[0], scheme=self._scheme)
        except BlockingIOError:
            pass

    def _tick(self) -> None:
        self.engine.tick(time.monotonic())
        self._look_at_movable()
        self.loop.call_later(0.02, self._tick)

    def movable(self) -> list[int]:
        """The descriptors of the connections that the master could move while this loop hangs."""
        return movable_descriptors(self._in_hand)

    def _look_at_movable(self) -> None:
        """What is said to be between two requests is."""
        connections = {connection.fileno(): connection for connection in self.engine.connections}
        for descriptor in self.movable():
            connection = connections.get(descriptor)
            if connection is None or not _is_between_requests(connection):
                self.faults.append({"message": f"{descriptor} is not movable", "connection": connection})

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.engine.run()

    def on_loop(self, call: Callable[[], Any]) -> Any:
        """Call on the loop's thread and wait for the result."""

        async def wrapped() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(PATIENCE)

    def wait_for_rest(self) -> None:
        """Wait until no request is in flight: the client of one reads its end before the server has seen to it."""
        wait_until(lambda: self.on_loop(lambda: self.engine.in_flight == 0))

    def listen_ipv6(self) -> Any:
        return self.on_loop(lambda: self._listen(socket.create_server(("::1", 0), family=socket.AF_INET6)))

    def listen_unix(self, path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.on_loop(lambda: self._listen(listener))

    def client(self) -> "Client":
        return Client(socket.create_connection(self.address[:2], timeout=PATIENCE))

    def stop(self) -> None:
        def end() -> None:
            for listener in self._listeners:
                self.loop.remove_reader(listener.fileno())
            self.engine.abort()
            # Again, for what was not set up yet.
            self.loop.call_later(0.02, end if self.engine.load else self.engine.leave)

        self.loop.call_soon_threadsafe(end)
        self.thread.join(PATIENCE)
        # As a worker does: it has to turn once more, and nothing that was meant for `run` may be left to stop it.
        self.loop.run_until_complete(asyncio.sleep(0.001))
        threads_ended = self.engine.runners.stop(PATIENCE)
        for listener in self._listeners:
            listener.close()
        self.loop.close()
        assert not self.faults
        assert threads_ended
        ledger = self.ledger
        assert (ledger.connections, ledger.in_flight, ledger.jobs, ledger.websockets) == (0, 0, 0, 0)


def _is_between_requests(connection: Connection) -> bool:
    is_resting = connection.stage is Stage.IDLE and connection.writable and not connection.residual
    return is_resting and not connection.unsent and connection.scheme == "http"


@contextmanager
def serving(
    application: Any,
    threads: int = 0,
    timeouts: dict[str, float] | None = None,
    limits: dict[str, int] | None = None,
    on_movable: Callable[[Connection], None] | None = None,
    tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> Iterator[Serving]:
    """Serve for the length of the block; nothing may have gone wrong inside the server by its end."""
    made = http_settings(
        threads=threads, timeouts=timeouts_of(**timeouts or {}), limits=limits_of(**limits or {}), **settings
    )
    server = Serving(application, made, on_movable, tls)
    try:
        yield server
    finally:
        server.stop()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for an event that only polling can see."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


class Answer:
    """A response as it came over the wire."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, _, rest = head.decode("latin-1").partition("\r\n")
        self.line = line
        self.status = int(line.split(" ")[1])
        self.fields = {
            name.lower(): value for name, _, value in (each.partition(": ") for each in rest.split("\r\n") if each)
        }
        self.body = body


def lines_of_head(file: IO[bytes]) -> Iterator[bytes]:
    """The lines up to the empty one. Raises ConnectionError where the connection ends before."""
    while (line := file.readline()) != b"\r\n":
        if not line:
            raise ConnectionError("the connection ended within a head")
        yield line


class Client:
    """A client that sees every byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reset(self) -> None:
        """Close so that the server sees a reset (socket(7), SO_LINGER)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.socket.close()

    def get(self, target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> Answer:
        self.send(request(target, *lines, method=method, body=body))
        return self.answer(bodiless=method == "HEAD")

    def answer_head(self) -> Answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            assert line, f"the connection ended within a head: {head!r}"
            head += line
        return Answer(head[:-4], b"")

    def lines_until_empty(self) -> list[bytes]:
        return [line.rstrip(b"\r\n") for line in lines_of_head(self._file)]

    def answer(self, bodiless: bool = False) -> Answer:
        answer = self.answer_head()
        if bodiless or answer.status in (100, 204, 304):
            return answer
        if answer.fields.get("transfer-encoding") == "chunked":
            answer.body = b"".join(iter(self.chunk, b""))
        elif "content-length" in answer.fields:
            answer.body = self._file.read(int(answer.fields["content-length"]))
        else:
            answer.body = self._file.read()
        return answer

    def chunk(self) -> bytes:
        size = int(self._file.readline(), 16)
        data = self._file.read(size)
        assert self._file.readline() == b"\r\n"
        return data

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end."""
        return self._file.read(size)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        return self._file.read()


def request(target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """The bytes of a request."""
    fields = [f"{method} {target} HTTP/1.1", "Host: test", *lines]
    if body:
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*fields, "", ""]).encode("latin-1") + body


@contextmanager
def asked_before(
    server: Serving, data: bytes, adopt: Callable[[socket.socket], object] | None = None
) -> Iterator[Client]:
    """A connection whose first bytes are here before the server looks at it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.settimeout(PATIENCE)
    sender = threading.Thread(target=ours.sendall, args=(data,))
    sender.start()
    if len(data) < 50_000:
        sender.join()
    server.on_loop(lambda: (adopt or server.engine.adopt)(theirs))
    with Client(ours) as client:
        yield client
        sender.join(PATIENCE)
