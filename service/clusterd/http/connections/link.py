"""A connection without its requests: how it begins, how it moves to another process, and how it ends."""

import socket
from http import HTTPStatus
from math import inf
from typing import cast

from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.deadline import Deadline
from clusterd.http.connections.stage import AT_REST, Stage
from clusterd.http.connections.stream import Stream
from clusterd.http.connections.tls import TlsLayer
from clusterd.http.connections.transport import LoopTransport, Receiver, Transport
from clusterd.http.origins.proxy_protocol import MalformedProxyHeader, parse_proxy_header
from clusterd.wire.connection_state import RESIDUAL_LIMIT, CarriedState

_GONE = ("", 0)
"""The address of a client that is gone already."""


class Link(Stream):
    """To one client. In the beginning there may be a PROXY protocol header, and then a TLS handshake."""

    __slots__ = (
        "_awaits_header",
        "_begun",
        "_context",
        "_early",
        "_retirement",
        "_socket",
        "_tls",
        "behind_proxy",
        "deadline",
        "local",
        "peer",
        "requests",
        "scheme",
        "stage",
    )

    def __init__(self, context: ConnectionContext, sock: socket.socket, carried: CarriedState) -> None:
        super().__init__()
        self._context = context
        self._retirement = context.retirement
        self._socket = sock
        self._begun = False
        """Whether reading can be paused, without which nothing may move, and what is here already has been read."""
        self._tls: TlsLayer | None = None
        self._early = carried.residual
        """What was read before the first request may come."""
        self.stage = Stage.IDLE
        self.deadline = Deadline(context.settings.timeouts)
        self.behind_proxy = False
        """Whether the peer is trusted to say whom a request comes from."""
        self._awaits_header = carried.awaits_header
        self.requests = carried.requests
        self.peer = carried.peer
        self.local = carried.local
        self.scheme = carried.scheme

    # ---- for the requests, which are the subclass's affair

    def _go_on_with(self, early: bytes) -> None:
        """The client is known and can be spoken with: its next request may come, and begins with what is here."""
        raise NotImplementedError

    def _at_rest(self) -> None:
        """Between requests: it may move, or be closed."""
        raise NotImplementedError

    def _forget_requests(self) -> None:
        """Nothing more is answered."""
        raise NotImplementedError

    def _account(self, status: int) -> None:
        """Count an answer, and log it where that is wanted."""
        raise NotImplementedError

    @property
    def _unanswered(self) -> bytes:
        """What was read of the next request."""
        raise NotImplementedError

    def _tell(self, what: str) -> None:
        """At level debug, log what becomes of the connection: how a request could be lost is read from these lines.

        `unanswered` counts bytes that were read and belong to no request yet, `unread` those that wait in the kernel: a
        socket that is closed with some of them resets its connection.
        """
        if not self._context.is_debugging:
            return
        self._context.log.debug(
            f"connection {what}",
            peer=f"{self.peer[0]}:{self.peer[1]}" if self.peer else "unix",
            scheme=self.scheme,
            stage=self.stage.name.lower(),
            requests=self.requests,
            unanswered=len(self._residual),
            unread=self.unread,
        )

    # ---- the beginning

    @property
    def may_begin_outside(self) -> bool:
        """Whether the first request is the first thing that comes: it can be served on the doorstep."""
        return not (self.requests or self._awaits_header or self._early) and self.scheme == "http"

    def connection_made(self, transport: Transport) -> None:
        """Begin: read the first request, or go on with what came along."""
        self._enter(transport)
        # uvloop starts reading after this call, whatever was paused in it: before that nothing may move.
        if self._retirement.is_under_way:
            self._context.call_soon(self._begin)
        else:
            self._begun = True

    def arrived(self, doorstep: Transport) -> None:
        """Begin on the doorstep."""
        self._enter(doorstep)

    def settled(self) -> None:
        """Moved in from the doorstep: reading can be paused, and the connection be moved, from now on."""
        if not self._reading:
            self._transport.pause_reading()
        self._begin()

    def _begin(self) -> None:
        self._begun = True
        if self.stage in AT_REST:
            self._at_rest()

    def _enter(self, transport: Transport) -> None:
        self._attach(transport)
        if self.local is None and self._socket.family != socket.AF_UNIX:
            # None where the client is gone already; reading will say so.
            self.peer = self.peer or (transport.get_extra_info("peername") or _GONE)[:2]
            self.local = (transport.get_extra_info("sockname") or _GONE)[:2]
        self._context.registry.opened(self)
        self._tell("opened")
        self._start()

    def _start(self) -> None:
        """From the beginning, or where another process left off."""
        self.behind_proxy = self._context.origins.trusts(self.peer)
        if not self._awaits_header and (self.scheme == "http" or self._is_secure):
            early, self._early = self._early, b""
            self._go_on_with(early)
            return
        self.stage = Stage.PREFACE
        self.deadline.rest_of_head()
        if self._awaits_header:
            self._await_header()
        else:
            self._begin_tls()
        if self.stage is Stage.PREFACE and self._retirement.is_under_way and self._begun:
            self._at_rest()

    def _await_header(self) -> None:
        if not self.behind_proxy:
            # Without its header it would pass by the proxy, and with it, it could say that it is anybody.
            self._turn_away(HTTPStatus.FORBIDDEN, "it is none of trusted_proxies")
            return
        self.read_on()
        self._read_header()

    def receive_early(self, data: bytes) -> None:
        """Take bytes from before the first request."""
        self._early += data
        self._read_header()

    def _read_header(self) -> None:
        """The PROXY protocol's, which comes before everything else and tells who is at the other side of the proxy."""
        try:
            header = parse_proxy_header(self._early)
        except MalformedProxyHeader as error:
            self._turn_away(HTTPStatus.BAD_REQUEST, f"it began with {error}")
            return
        if header is not None:
            self._awaits_header = False
            self._early = self._early[header.size :]
            if header.tells_peer:
                self.peer, self.local = header.peer, header.local or self.local
            self._start()

    def _turn_away(self, status: HTTPStatus, reason: str) -> None:
        """Close without an answer; counted as if it had been one, for that is where one looks."""
        if self.peer != _GONE:
            self._context.origins.turned_away(self.peer, reason)
            self._account(status.value)
        self.close()

    @property
    def _is_secure(self) -> bool:
        return self._tls is not None and self._tls.is_open

    def _begin_tls(self) -> None:
        self.read_on()
        if self._tls is None:
            context = self._context.tls
            if context is None:
                raise RuntimeError("a connection for HTTPS, and no certificate")
            transport = cast(LoopTransport, self._transport)  # never a doorstep: that is for plain HTTP
            self._tls = TlsLayer(transport, context, cast(Receiver, self), self._secured, self._handshake_failed)
            self._transport = self._tls
        early, self._early = self._early, b""
        if early:
            self._tls.data_received(early)

    def _secured(self) -> None:
        self._begun = False  # its request may have come along, and is not to be closed upon unread
        self._start()
        self._context.call_soon(self._begin)

    def _handshake_failed(self, reason: str) -> None:
        self._context.log.debug("a TLS handshake failed", reason=reason, peer=self.peer[0] if self.peer else None)
        self.close_politely()

    # ---- the end

    def close_politely(self) -> None:
        """Close our side, and let the client read the last response before the rest is closed."""
        self._tell("closing")
        self._forget_requests()
        if self._half_closed and self.writable:
            self.close()
            return
        self.stage = Stage.LINGERING
        if self.writable:
            self.deadline.last_bytes()
        else:
            self.deadline.reader()
        self.read_on()
        self._transport.write_eof()

    def close(self) -> None:
        """Close when all that was written is out."""
        self._tell("closing both sides")
        self.stage = Stage.LINGERING
        self.deadline.last_bytes()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection whatever is under way."""
        self._tell("dropped")
        super().abort()

    def close_if_idle(self, since: float) -> None:
        """Close a connection that has waited for a request since then. Not one whose request is here and only waits to
        be read: this process may not have had its turn since it came.
        """
        if self._begun and self.stage in AT_REST and self._waits_since() <= since and not self.unread:
            self.close_politely()

    def _waits_since(self) -> float:
        """By time.monotonic; infinite where a part of a head, or of what comes before it, is here: timeouts.header is
        for that.
        """
        if self.stage is Stage.HEAD or self._early or (self.stage is Stage.PREFACE and self.is_bound):
            return inf
        timeouts = self._context.settings.timeouts
        return self.deadline.due - (timeouts.keepalive if self.stage is Stage.IDLE else timeouts.header)

    @property
    def unfinished(self) -> str:
        """What would be lost with the connection besides the request under way, in words; empty where nothing would."""
        if self.stage is Stage.PREFACE and self.is_bound:
            return "its TLS handshake was not over"
        if self.stage in AT_REST and (self._residual or self.unread):
            return "a part of a request was here"
        if self.stage in AT_REST and not self._begun:
            return "it had only just come"
        if self.stage is Stage.LINGERING and self._transport.get_write_buffer_size():
            return "the client had not read the whole response"
        return ""

    # ---- the hand-over

    @property
    def movable(self) -> bool:
        """Whether another process can take the connection over: between requests, with everything written out."""
        return (
            self._begun
            and self.stage in AT_REST
            and self.writable
            and len(self._residual) <= RESIDUAL_LIMIT
            and not self.is_bound
        )

    @property
    def may_still_move(self) -> bool:
        """Whether it is between requests and may be taken over, now or in a moment: it may have only just come, or may
        have been offered already.
        """
        return (self.stage in AT_REST or self.stage is Stage.DETACHED) and not self.is_bound

    @property
    def is_bound(self) -> bool:
        """Whether it can never move, because this process alone can read what comes: TLS has begun."""
        return self._tls is not None and not self._tls.is_untouched

    @property
    def _residual(self) -> bytes:
        """What was read and nobody has answered, which has to move too."""
        return self._early or self._unanswered

    def detach(self) -> CarriedState:
        """Stop reading, and say what has to travel with the descriptor. Raises RuntimeError when not movable."""
        if not self.movable:
            raise RuntimeError("the connection cannot move now")
        self._tell("offered to another worker")
        self.stop_reading()
        self.stage = Stage.DETACHED
        self.deadline.never()
        return CarriedState(self._residual, self.peer, self.local, self.scheme, self.requests, self._awaits_header)

    def release(self) -> None:
        """Another process has acknowledged: drop our copy. Closing a copy sends nothing to the client."""
        self._tell("given to another worker")
        self._transport.abort()

    def resume(self) -> None:
        """The hand-over came to nothing: go on here."""
        if self.stage is Stage.DETACHED:
            self._tell("kept")
            self._start()
