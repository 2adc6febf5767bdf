"""What the engine costs outside of the kernel: `engine_cost.py [ROUNDS]`.

The engine is given sockets and transports that do nothing, on a loop that only keeps a list, and counts into a row of a
scoreboard. What is measured is our own code and the interpreter's. Microseconds a request, the least over the rounds:
it is what the code costs when nothing else is in the way. For whoever changes the code, before and after; it says
nothing of other servers.
"""

import asyncio
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from clusterd.config.reading.loader import load_given
from clusterd.http.connections.connection import Connection
from clusterd.http.engine import Callbacks, Engine
from clusterd.http.settings import Interface
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.wire.connection_state import CarriedState
from clusterd.worker.engine_settings import engine_settings

REQUESTS = 20_000
SMALL = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"
BROWSER = (
    b"GET /shop?item=%d HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=%08d\r\n\r\n"
)
ONCE = b"GET / HTTP/1.0\r\nHost: 127.0.0.1:8000\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"


def wsgi(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Says hello."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, World!"]


class Loop:
    """Keeps what is to be called soon, and calls it when it is told to."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()

    def call_soon(self, call: Callable[..., object], *arguments: object) -> None:
        """As of an event loop."""
        self._calls.append((call, arguments))

    def turn(self) -> None:
        """Call them, and those that they add."""
        while self._calls:
            call, arguments = self._calls.popleft()
            call(*arguments)


class Nothing:
    """A log, and a transport that takes everything."""

    is_debugging = False

    def nothing(self, *_: object, **__: object) -> None:
        """Whatever it is asked to do."""

    error = warning = request = debug = nothing
    set_write_buffer_limits = pause_reading = resume_reading = write = close = nothing

    def get_write_buffer_size(self) -> int:
        """Always written out."""
        return 0

    def get_extra_info(self, _: str, default: object = None) -> object:
        """Knows nothing."""
        return default


class Socket:
    """One request, and an answer that is taken."""

    family = socket.AF_INET
    timeout = None

    def recv(self, *_: int) -> bytes:
        """The request."""
        return ONCE

    def send(self, data: bytes, _: int) -> int:
        """The answer."""
        return len(data)

    def fileno(self) -> int:
        """A descriptor."""
        return 0

    def shutdown(self, _: int) -> None:
        """The end, for the client."""

    def close(self) -> None:
        """The end."""


def engine() -> tuple[Engine, Loop]:
    """One that calls the application on the loop."""
    loop, nothing = Loop(), Nothing()
    settings = engine_settings(load_given({"app": "hello:wsgi", "threads": 0}, "the benchmark"), Interface.WSGI)
    counter = RequestCounter(Scoreboard.create().row(0))
    return Engine(wsgi, settings, counter, nothing, cast(asyncio.AbstractEventLoop, loop), Callbacks()), loop


def kept(requests: Callable[[int], bytes]) -> float:
    """Seconds a request of a connection that is kept."""
    made, _ = engine()
    carried = CarriedState(b"", ("127.0.0.1", 4711), ("127.0.0.1", 8000), "http", 0)
    connection = Connection(made.context, cast(socket.socket, Socket()), carried)
    connection.connection_made(cast(asyncio.Transport, Nothing()))
    asked = [requests(number) for number in range(REQUESTS)]
    started = time.perf_counter()
    for data in asked:
        connection.data_received(data)
    return (time.perf_counter() - started) / REQUESTS


def fresh() -> float:
    """Seconds a connection of one request."""
    made, loop = engine()
    sock, peer, local = cast(socket.socket, Socket()), ("127.0.0.1", 4711), ("127.0.0.1", 8000)
    started = time.perf_counter()
    for _ in range(REQUESTS):
        made.adopt(sock, peer=peer, local=local)
        loop.turn()
    return (time.perf_counter() - started) / REQUESTS


CASES: dict[str, Callable[[], float]] = {
    "kept, the same small request again and again": lambda: kept(lambda _: SMALL),
    "kept, a browser's, each another": lambda: kept(lambda number: BROWSER % (number, number)),
    "a new connection for a request": fresh,
}


def main(rounds: int) -> None:
    """Print a line for each case."""
    least = dict.fromkeys(CASES, float("inf"))
    for _ in range(rounds):
        for name, case in CASES.items():
            least[name] = min(least[name], case())
    for name, seconds in least.items():
        print(f"{seconds * 1e6:6.2f} us  {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
