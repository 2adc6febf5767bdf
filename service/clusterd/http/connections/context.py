"""What the connections of an engine share. A class of its own and no Protocol: each request reads from it, compiled."""

import asyncio
import ssl
from collections.abc import Callable

from clusterd.http.connections.registry import Registry
from clusterd.http.messages.head import HeadParser
from clusterd.http.messages.response import Stamp
from clusterd.http.messages.sink import Bodies
from clusterd.http.origins.origin import Origins
from clusterd.http.ports import Log
from clusterd.http.settings import AccessLog, HttpSettings

_LOGGED_FROM = {AccessLog.ALL: 0, AccessLog.ERRORS: 500, AccessLog.OFF: 1000}
"""The lowest status that is logged."""


class ConnectionContext:
    """For the thread that runs `loop` only."""

    def __init__(
        self,
        settings: HttpSettings,
        adapter: Bodies,
        stamp: Stamp,
        registry: Registry,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self.adapter = adapter
        """What makes bodies; for `Connection`, which alone answers, an `Adapter`."""
        self.stamp = stamp
        self.registry = registry
        self.retirement = registry.retirement
        self.heads = HeadParser(settings.limits)
        self.origins = Origins(settings, log)
        self.log = log
        self.tls = tls
        self.is_debugging = log.is_debugging
        """Whether the life of each connection is told. Asked of the log at ticks only."""
        self._loop = loop
        self._logged_from = _LOGGED_FROM[settings.access_log]

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call` made in the loop's next round, after what other connections have waiting."""
        self._loop.call_soon(call)

    def count(self, status: int, seconds: float) -> bool:
        """A request is over: count it. Whether it is to be logged."""
        self.registry.counters.request_done(status, seconds)
        return status >= self._logged_from
