"""The settings of the engine. The worker makes them from the service's configuration."""

from dataclasses import dataclass

from clusterd.config.limits import Limits, Timeouts
from clusterd.config.model import AccessLog, Interface, RequestIds, Underscores

__all__ = ["AccessLog", "HttpSettings", "Interface", "Limits", "RequestIds", "Timeouts", "Underscores"]


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The settings of one engine.

    `interface` is that of the application: WSGI or ASGI. `threads` 0 runs a WSGI application on the event loop.
    `greenlets` take the place of threads if the application uses gevent.
    `root_path` is where the application is mounted: "" or "/prefix". `trusted_proxies` lists addresses, networks, and
    "unix" for peers without an address. With `proxy_protocol` every connection must come from one of them and begin
    with a PROXY protocol header. `limits.connections` is what the process has descriptors for. `access_format` is a
    name or a format string (config/settings/access_format.py). Requests that take `slow` seconds are logged, with their
    queries if `whole_targets`. `worker` is the name of this process in the access log.
    """

    interface: Interface
    threads: int
    greenlets: int
    root_path: str
    trusted_proxies: tuple[str, ...]
    proxy_protocol: bool
    server_header: bool
    underscores: Underscores
    request_ids: RequestIds
    access_log: AccessLog
    access_format: str
    slow: float | None
    whole_targets: bool
    worker: str
    timeouts: Timeouts
    limits: Limits
