"""An engine on a uvloop of its own, in a thread beside the test, behind a listening socket."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from clusterd.http.engine import Engine
from clusterd.http.settings import HttpSettings


class Notes:
    """Counts and logs for the test to look at."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.timed_out = 0
        self.connections = 0
        self.errors: list[str] = []
        self.infos: list[dict[str, object]] = []
        self.changed = threading.Condition()

    def request_done(self, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        with self.changed:
            self.statuses.append(status)
            self.changed.notify_all()

    def request_timed_out(self) -> None:
        self.timed_out += 1

    def connections_changed(self, count: int) -> None:
        with self.changed:
            self.connections = count
            self.changed.notify_all()

    def error(self, message: str, /, **fields: object) -> None:
        with self.changed:
            self.errors.append(message)
            self.changed.notify_all()

    def warning(self, message: str, /, **fields: object) -> None: ...

    def info(self, message: str, /, **fields: object) -> None:
        self.infos.append(fields)

    def debug(self, message: str, /, **fields: object) -> None: ...

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10.0) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, seconds)


class Host:
    """A running engine."""

    def __init__(self, application: Callable[..., Any], settings: HttpSettings) -> None:
        self.notes = Notes()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.setblocking(False)
        self.address: tuple[str, int] = self.listener.getsockname()
        self._loop = uvloop.new_event_loop()
        self.engine = Engine(application, settings, self.notes, self.notes, self._loop)
        self._ticking = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.add_reader(self.listener.fileno(), self._accept)
        self._tick()
        self._loop.run_forever()

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        self.engine.adopt(sock)

    def _tick(self) -> None:
        self.engine.tick(time.monotonic())
        self._loop.call_later(0.02, self._tick)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call on the loop's thread, and return the result."""
        done = threading.Event()
        results: list[Any] = []

        def run() -> None:
            results.append(function(*arguments))
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10)
        return results[0]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def stop(self) -> None:
        self.call(self.engine.abort)
        assert self.notes.wait_for(lambda: self.notes.connections == 0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.remove_reader(self.listener.fileno())
        self.listener.close()
        self._loop.close()
        assert self.engine.stop_threads(10)


@contextmanager
def serving(application: Callable[..., Any], settings: HttpSettings) -> Iterator[Host]:
    """An engine for the time of a test."""
    host = Host(application, settings)
    try:
        yield host
    finally:
        host.stop()


def exchange(sock: socket.socket, request: bytes) -> bytes:
    """Send, and read until the server closes."""
    sock.sendall(request)
    return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end of the stream."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))
