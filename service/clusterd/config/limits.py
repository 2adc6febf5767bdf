"""The sections `timeouts` and `limits` of the configuration.

They are a module of their own because the engine reads them for each request: this one is compiled with it (setup.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The time limits, in seconds.

    `announce` is how long a service that leaves goes on as before. `keepalive` runs until the first byte of a request,
    also on a new connection. `header` runs from there to the end of the head. `body` and `write` run while no byte
    moves, `queue` while a request waits for a thread. `request` runs from the end of the head to the end of the
    response; None is no limit. `stall` is for a turn of the event loop; None has none logged.
    """

    announce: float
    drain: float
    drain_idle: float
    hang: float
    unready: float
    stall: float | None
    request: float | None
    queue: float
    keepalive: float
    header: float
    body: float
    write: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of counts per worker and of sizes in bytes. 0 means no limit for the last two.

    `request_line` excludes its CRLF. `headers` is everything after it, including the empty line. `header_count` is the
    number of fields of a request. `body` is the size after the chunks are decoded. `websocket_memory` is for the
    messages of all WebSockets of a worker that the application has not received.
    """

    connections: int
    queue: int
    request_line: int
    headers: int
    header_count: int
    body: int
    websocket_memory: int
    max_requests: int
    max_memory: int
