"""Connections beyond limits.connections: told to come back, as soon as they have asked."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus

from clusterd.http.connections.loop_entry import LoopEntry
from clusterd.http.connections.tls import TlsLayer
from clusterd.http.connections.transport import LoopTransport, Transport
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Counters, Log

PATIENCE_SECONDS = 2.0
"""In which the client may ask, and read the answer before the connection is dropped: closing a socket that holds
unread bytes would destroy the answer on its way (RFC 9112 section 9.6)."""

MOST_SURPLUS = 64
"""Of them that are told so at the same time; still more are closed without a word."""

REPORT_SECONDS = 10.0
"""The least time between two lines in the log: under a flood they would be the next thing that overflows."""

RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"%b"
    b"Retry-After: 1\r\n"
    b"Content-Length: 0\r\n"  # no body, so that it fits whatever was asked, HEAD too
    b"Connection: close\r\n\r\n"
)


class _Report:
    """Says in the log that clients are sent away, and what helps: the metrics only know that there was a 503."""

    __slots__ = ("_count", "_due", "_limit", "_log")

    def __init__(self, limit: int, log: Log) -> None:
        self._limit = limit
        self._log = log
        self._count = 0
        """Since the last line."""
        self._due = 0.0

    def note(self) -> None:
        """Another one is sent away."""
        self._count += 1

    def tick(self, now: float) -> None:
        """Write a line if there is something to say, and the last one is long enough ago."""
        if self._count and now >= self._due:
            self._log.warning(
                "clients are sent away with 503, for no worker has room for another connection: "
                "raise limits.connections, with LimitNOFILE= above it, or workers",
                count=self._count,
                limit=self._limit,
            )
            self._count = 0
            self._due = now + REPORT_SECONDS


class Shedder:
    """Sends clients away."""

    def __init__(
        self,
        entry: LoopEntry,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        counters: Counters,
        stamp: Stamp,
        log: Log,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._entry = entry
        self._loop = loop
        self._counters = counters
        self._stamp = stamp
        self._tls = tls
        self._report = _Report(limit, log)
        self._clients: set[RejectedConnection] = set()

    def shed(self, sock: socket.socket, scheme: str) -> None:
        """Have the client of a connected socket come back later."""
        self._report.note()
        if len(self._clients) >= MOST_SURPLUS:
            sock.close()
            return
        tls = self._tls if scheme == "https" else None
        client = RejectedConnection(self._loop, self._counters, self._stamp, self._clients.discard, tls)
        self._clients.add(client)
        self._entry.enter(sock, client, lambda: self._clients.discard(client))

    def tick(self, now: float) -> None:
        """Report, every now and then."""
        self._report.tick(now)

    def abort(self) -> None:
        """Drop those that have not read their answer."""
        for client in tuple(self._clients):
            client.abort()


class RejectedConnection:
    """Reads nothing of what is asked, and keeps nothing: it costs as little as can be."""

    __slots__ = ("_answered", "_closed", "_counters", "_loop", "_stamp", "_timer", "_tls", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        stamp: Stamp,
        closed: Callable[["RejectedConnection"], None],
        tls: ssl.SSLContext | None,
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._stamp = stamp
        self._closed = closed
        self._tls = tls
        self._transport: Transport | None = None
        self._timer: asyncio.TimerHandle
        self._answered = False

    def connection_made(self, transport: LoopTransport) -> None:
        """Wait for the request: a response before it would be taken for none (Go's client, for one)."""
        self._transport = transport
        if self._tls is not None:
            self._transport = TlsLayer(transport, self._tls, self, lambda: None, lambda _: self.abort())
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self.abort)

    def data_received(self, _: bytes) -> None:
        """Answer, once; the rest is dropped."""
        if self._transport is not None and not self._answered:
            self._answered = True
            self._transport.write(RESPONSE % self._stamp.fields)
            self._transport.write_eof()
            self._counters.request_done(HTTPStatus.SERVICE_UNAVAILABLE.value, 0.0)

    def eof_received(self) -> None:
        """What is written still goes out, and then the transport closes."""

    def pause_writing(self) -> None:
        """Nothing follows the answer."""

    def resume_writing(self) -> None:
        """As above."""

    def connection_lost(self, _: Exception | None) -> None:
        """The client has gone, or its time is over."""
        self._timer.cancel()
        self._closed(self)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
