"""Rejects connections beyond limits.connections with a 503, once their request arrives."""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus

from clusterd.http.connections.transports.loop_entry import LoopEntry
from clusterd.http.connections.transports.transport import LoopTransport
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Counters, Log

PATIENCE_SECONDS = 2.0
"""Time for the client to send its request and to read the response before the connection is dropped. Closing a socket
that holds unread bytes would destroy the response on its way (RFC 9112 section 9.6)."""

MOST_SURPLUS = 64
"""Maximum rejected connections at a time. Further ones are closed without a response, and so are those over TLS, for
which a handshake would have to be made first."""

REPORT_SECONDS = 10.0
"""Minimum time between two log lines, so that a flood of connections does not flood the log."""

RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"%b"
    b"Retry-After: 1\r\n"
    b"Content-Length: 0\r\n"  # Without a body the response fits every method, also HEAD.
    b"Connection: close\r\n\r\n"
)


class _Report:
    """Logs that clients are rejected, and what helps. The metrics only show the status 503."""

    __slots__ = ("_count", "_due", "_limit", "_log")

    def __init__(self, limit: int, log: Log) -> None:
        self._limit = limit
        self._log = log
        self._count = 0
        """Rejected clients since the last line."""
        self._due = 0.0

    def note(self) -> None:
        """Count a rejected client."""
        self._count += 1

    def tick(self, now: float) -> None:
        """Write a line if clients were rejected and the last line is at least REPORT_SECONDS old."""
        if self._count and now >= self._due:
            self._log.warning(
                "clients are sent away with 503, because no worker has room for another connection: "
                "raise limits.connections, with LimitNOFILE= above it, or workers",
                count=self._count,
                limit=self._limit,
            )
            self._count = 0
            self._due = now + REPORT_SECONDS


class Shedder:
    """Rejects connections."""

    def __init__(
        self,
        entry: LoopEntry,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        counters: Counters,
        stamp: Stamp,
        log: Log,
    ) -> None:
        self._entry = entry
        self._loop = loop
        self._counters = counters
        self._stamp = stamp
        self._report = _Report(limit, log)
        self._clients: set[RejectedConnection] = set()

    def shed(self, sock: socket.socket, scheme: str) -> None:
        """Reject the connection, and close it."""
        self._report.note()
        self._counters.request_refused("connections", 0)
        if scheme == "https" or len(self._clients) >= MOST_SURPLUS:
            sock.close()
            return
        client = RejectedConnection(self._loop, self._counters, self._stamp, self._clients.discard)
        self._clients.add(client)
        self._entry.enter(sock, client, lambda: self._clients.discard(client))

    def tick(self, now: float) -> None:
        """Report rejected clients if a report is due."""
        self._report.tick(now)

    def abort(self) -> None:
        """Drop the rejected connections that are still open."""
        for client in tuple(self._clients):
            client.abort()


class RejectedConnection:
    """A connection that is rejected. It does not parse or keep the request, so that it costs as little as possible."""

    __slots__ = ("_answered", "_closed", "_counters", "_loop", "_stamp", "_timer", "_transport")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
        stamp: Stamp,
        closed: Callable[["RejectedConnection"], None],
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._stamp = stamp
        self._closed = closed
        self._transport: LoopTransport | None = None
        self._timer: asyncio.TimerHandle
        self._answered = False

    def connection_made(self, transport: LoopTransport) -> None:
        """Wait for the request, because some clients (Go's, for example) ignore a response that precedes it."""
        self._transport = transport
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self.abort)

    def data_received(self, _: bytes) -> None:
        """Send the response at the first bytes, and drop the others."""
        if self._transport is not None and not self._answered:
            self._answered = True
            self._transport.write(RESPONSE % self._stamp.fields)
            self._transport.write_eof()
            self._counters.refusal_sent(HTTPStatus.SERVICE_UNAVAILABLE.value)

    def eof_received(self) -> None:
        """Do nothing: the transport sends what was written, and closes."""

    def pause_writing(self) -> None:
        """Do nothing: there is nothing more to write."""

    def resume_writing(self) -> None:
        """Do nothing: there is nothing more to write."""

    def connection_lost(self, _: Exception | None) -> None:
        """The client has gone, or its time has passed."""
        self._timer.cancel()
        self._closed(self)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
