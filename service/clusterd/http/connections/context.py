"""The data that the connections of an engine share. A class and not a Protocol: compiled access to it is faster."""

import asyncio
import ssl
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from clusterd.http.access.access_log import AccessLog
from clusterd.http.access.request_ids import RequestIds
from clusterd.http.connections.registry import Registry
from clusterd.http.connections.transports.turns import Turns
from clusterd.http.messages.head import HeadParser
from clusterd.http.messages.response import Stamp
from clusterd.http.messages.sink import Bodies
from clusterd.http.origins.origin import Origins
from clusterd.http.ports import Log
from clusterd.http.settings import HttpSettings
from clusterd.http.settings import RequestIds as WithIds


class _Answers(Bodies, Protocol):
    """An `Adapter`, without the type of the connection, which imports this module."""

    def answer(self, connection: Any) -> None: ...


class ConnectionContext:
    """To be used only by the thread that runs `loop`."""

    def __init__(
        self,
        settings: HttpSettings,
        adapter: _Answers,
        stamp: Stamp,
        registry: Registry,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.settings = settings
        self.adapter = adapter
        self.stamp = stamp
        self.registry = registry
        self.retirement = registry.retirement
        self.in_hand = registry.in_hand
        self.heads = HeadParser(settings.limits, settings.underscores)
        self.origins = Origins(settings, log)
        self.log = log
        self.tls = tls
        self.is_debugging = log.is_debugging
        """Whether to log the life of each connection. Updated from the log only at ticks."""
        self.turns = Turns(loop.call_soon)
        self.received = 0
        """Bytes of requests and other protocols that connections have received."""
        self.sent = 0
        """Bytes that connections have sent, or given to the kernel or a transport to be sent."""
        self._loop = loop
        self.access = AccessLog(settings, log)
        wanted = settings.request_ids
        self.ids = None if wanted is WithIds.OFF else RequestIds(returns=wanted is WithIds.RETURN)
        self.slow = inf if settings.slow is None else settings.slow
        """A request that takes so many seconds is logged."""

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call `call` in the loop's next round, after the pending events of other connections."""
        self._loop.call_soon(call)

    def count(self, status: int, seconds: float, waited: float) -> bool:
        """Count a request in flight as answered. Returns whether it should be logged."""
        self.registry.counters.request_done(status, seconds, waited)
        return self.is_logged(status, seconds)

    def is_logged(self, status: int, seconds: float) -> bool:
        """Whether a request that has ended with this status, after this time, should be logged."""
        return status >= self.access.status or seconds >= self.access.seconds
