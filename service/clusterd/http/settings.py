"""The settings of the engine. The worker makes them from the service's configuration."""

from dataclasses import dataclass, field
from enum import Enum

from clusterd.config.model import AccessLog

__all__ = ["AccessLog", "HttpSettings", "Interface", "Limits", "Timeouts"]


class Interface(Enum):
    """The interface of the application."""

    WSGI = "wsgi"
    ASGI = "asgi"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds.

    `keepalive` runs until the first byte of a request, also on a new connection. `header` runs from there to the end of
    the head. `body` and `write` run while no byte moves, `queue` while a request waits for a thread. `request` runs
    from the end of the head to the end of the response; None is no limit.
    """

    keepalive: float = 75.0
    header: float = 10.0
    body: float = 30.0
    write: float = 30.0
    queue: float = 30.0
    request: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits. `connections` and `queue` are numbers for this process, `header_count` is for a request. Sizes are bytes.

    `request_line` excludes its CRLF. `headers` is everything after it, including the empty line. `body` is the size
    after the chunks are decoded.
    """

    connections: int = 10_000
    queue: int = 100
    request_line: int = 8 * 1024
    headers: int = 32 * 1024
    header_count: int = 100
    body: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The settings of one engine.

    `threads` 0 runs a WSGI application on the event loop. `root_path` is where the application is mounted: "" or
    "/prefix". `trusted_proxies` lists addresses, networks, and "unix" for peers without an address. With
    `proxy_protocol` every connection must come from one of them and begin with a PROXY protocol header.
    """

    interface: Interface = Interface.WSGI
    threads: int = 4
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    server_header: bool = True
    access_log: AccessLog = AccessLog.ERRORS
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
