"""A connection without its requests: its beginning, its handover to another process, and its end."""

import socket
from http import HTTPStatus
from math import inf
from typing import cast

from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.deadline import Deadline
from clusterd.http.connections.stage import AT_REST, Stage
from clusterd.http.connections.stream import Stream
from clusterd.http.connections.transports.tls import TlsLayer
from clusterd.http.connections.transports.transport import LoopTransport, Receiver, Transport, shut_down
from clusterd.http.origins.proxy_protocol import MalformedProxyHeader, parse_proxy_header
from clusterd.http.ports import RefusedFor
from clusterd.wire.connection_state import RESIDUAL_LIMIT, CarriedState

_GONE = ("", 0)
"""The address of a client that has already gone."""


class Link(Stream):
    """The connection to one client. It may begin with a PROXY protocol header and then a TLS handshake."""

    __slots__ = (
        "_awaits_header",
        "_begun",
        "_context",
        "_descriptor",
        "_early",
        "_is_direct",
        "_is_marked",
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
        """Whether reading can be paused, which a handover requires, and what had arrived has been read."""
        self._tls: TlsLayer | None = None
        self._early = carried.residual
        """Bytes that were read before the first request can be parsed."""
        self._descriptor = sock.fileno()
        self._is_direct = carried.scheme == "http" and not context.settings.proxy_protocol
        """Whether another process could serve it without knowing more than the descriptor."""
        self._is_marked = False
        """Whether the master may move it while no request of it is in hand (in_hand.py)."""
        self.stage = Stage.IDLE
        self.deadline = Deadline(context.settings.timeouts)
        self.behind_proxy = False
        """Whether the peer is a trusted proxy, which states the client of a request."""
        self._awaits_header = carried.awaits_header
        self.requests = carried.requests
        self.peer = carried.peer
        self.local = carried.local
        self.scheme = carried.scheme

    # ---- requests, implemented by the subclass

    def _go_on_with(self, early: bytes) -> None:
        """Receive requests. PROXY header and TLS handshake are complete, and `early` begins the next request."""
        raise NotImplementedError

    def _at_rest(self) -> None:
        """The connection is between requests and may be handed over."""
        raise NotImplementedError

    def _forget_requests(self) -> None:
        """Drop the current request and the bytes after it."""
        raise NotImplementedError

    def _account_refusal(self, status: int, reason: RefusedFor) -> None:
        """Count a refused request and its response, and log it if the access log wants it."""
        raise NotImplementedError

    @property
    def _unanswered(self) -> bytes:
        """The bytes that were read of the next request."""
        raise NotImplementedError

    def _log_debug(self, what: str) -> None:
        """Log an event of the connection at level debug. These lines show how a request could be lost.

        `unanswered` counts bytes that were read and belong to no request yet. `unread` counts bytes that wait in the
        kernel: closing a socket with such bytes resets its connection.
        """
        if not self._context.is_debugging:
            return
        self._context.log.debug(
            f"connection {what}",
            peer=f"{self.peer[0]}:{self.peer[1]}" if self.peer else "unix",
            scheme=self.scheme,
            stage=self.stage.name.lower(),
            requests=self.requests,
            unanswered=len(self.residual),
            unread=self.unread,
        )

    # ---- the beginning

    @property
    def may_begin_outside(self) -> bool:
        """Whether the inline transport can serve it: a new connection that begins with a request, over plain HTTP."""
        return not (self.requests or self._awaits_header or self._early) and self.scheme == "http"

    def connection_made(self, transport: Transport) -> None:
        """Begin: read the first request, or continue with the bytes that were handed over."""
        self._enter(transport)
        # uvloop starts to read after this call, even if reading is paused here. No handover may happen before that.
        if self._retirement.is_under_way:
            self._context.call_soon(self._begin)
        else:
            self._begun = True

    def arrived(self, transport: Transport) -> None:
        """Begin with the inline transport."""
        self._enter(transport)

    def awaits_first_bytes(self) -> None:
        """Nothing has arrived yet."""
        self._mark_movable()

    def settled(self) -> None:
        """The connection has moved into the loop. From now on it can pause reading and be handed over."""
        if not self._reading:
            self._transport.pause_reading()
        self._begin()

    def _begin(self) -> None:
        self._begun = True
        if self.stage in AT_REST:
            if self.stage is Stage.IDLE and not self.residual:
                self._mark_movable()
            self._at_rest()

    def _enter(self, transport: Transport) -> None:
        self._attach(transport)
        if self.local is None and self._socket.family != socket.AF_UNIX:
            # The addresses are None if the client has already gone. Reading will report that.
            self.peer = self.peer or (transport.get_extra_info("peername") or _GONE)[:2]
            self.local = (transport.get_extra_info("sockname") or _GONE)[:2]
        elif self._is_direct and self.requests and self.peer is not None:
            # Another process has passed it on. Behind a proxy its peer came with a header that was read there.
            self._is_direct = (transport.get_extra_info("peername") or _GONE)[:2] == self.peer
        self._context.registry.opened(self)
        self._log_debug("opened")
        self._start()

    def _start(self) -> None:
        """Start at the beginning, or where another process has stopped."""
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
            # Without a header the client would bypass the proxy. With one it could claim any address.
            self._turn_away(HTTPStatus.FORBIDDEN, "it is none of trusted_proxies")
            return
        self.read_on()
        self._read_header()

    def receive_early(self, data: bytes) -> None:
        """Take bytes that come before the first request."""
        self._early += data
        self._read_header()

    def _read_header(self) -> None:
        """Parse the PROXY protocol header, which comes first and states the client of the proxy."""
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
        """Close without a response, but count one with `status`, so that the metrics show the refusal."""
        if self.peer != _GONE:
            self._context.origins.turned_away(self.peer, reason)
            self._account_refusal(status.value, "bad_request")
        self.close()

    @property
    def unread(self) -> int:
        """Bytes that the client has sent and that were not read from the kernel, or not decrypted; 0 when closed."""
        return self._unread_in_kernel() + (0 if self._tls is None else self._tls.held)

    @property
    def _is_secure(self) -> bool:
        return self._tls is not None and self._tls.is_open

    def _begin_tls(self) -> None:
        self.read_on()
        if self._tls is None:
            context = self._context.tls
            if context is None:
                raise RuntimeError("a connection for HTTPS, but no certificate")
            transport = cast(LoopTransport, self._transport)  # Never the inline transport, which is for plain HTTP.
            self._tls = TlsLayer(
                transport,
                context,
                cast(Receiver, self),
                self._secured,
                self._handshake_failed,
                self._context.turns,
            )
            self._transport = self._tls
        early, self._early = self._early, b""
        if early:
            self._tls.data_received(early)

    def _secured(self) -> None:
        self._begun = False  # The request may have arrived with the handshake. It must be read before any close.
        self._start()
        self._context.call_soon(self._begin)

    def _handshake_failed(self, reason: str) -> None:
        self._context.log.debug("a TLS handshake failed", reason=reason, peer=self.peer[0] if self.peer else None)
        counters = self._context.registry.counters
        if self._tls is not None and self._tls.is_plain:
            counters.request_refused("tls", 0)  # No request was read.
        else:
            counters.handshake_failed()
        self.close_politely()

    # ---- the end

    def close_politely(self) -> None:
        """Close our side, and let the client read the last response before closing the other side."""
        self._log_debug("closing")
        self._unmark()
        self._forget_requests()
        if self.half_closed and self.writable:
            self.close()
            return
        self.stage = Stage.LINGERING
        if self.writable:
            self.deadline.last_bytes()
        else:
            self.deadline.await_client_read()
        self.read_on()
        self._transport.write_eof()

    def close(self) -> None:
        """Close both sides when everything that was written is out."""
        self._log_debug("closing both sides")
        self._unmark()
        self.stage = Stage.LINGERING
        self.deadline.last_bytes()
        self._transport.close()

    def shut_down(self) -> None:
        """Have the client read the end, whoever else holds the socket."""
        if self._socket.fileno() >= 0:
            shut_down(self._socket)

    def abort(self) -> None:
        """Drop the connection, also with a request in flight."""
        self._log_debug("dropped")
        self._unmark()
        super().abort()

    def close_if_idle(self, since: float) -> bool:
        """Close the connection if it has waited for a request since `since`, and no unread bytes are in the kernel:
        this process may not have had the time to read a request that has arrived. Returns whether it is closed.
        """
        is_idle = self._begun and self.stage in AT_REST and self._waits_since() <= since and not self.unread
        if is_idle:
            self.close_politely()
        return is_idle

    def _waits_since(self) -> float:
        """When the wait for a request began, by time.monotonic(). Infinite if a part of a head, PROXY header or TLS
        handshake has arrived: timeouts.header applies to that.
        """
        if self.stage is Stage.HEAD or self._early or (self.stage is Stage.PREFACE and self.is_bound):
            return inf
        timeouts = self._context.settings.timeouts
        return self.deadline.due - (timeouts.keepalive if self.stage is Stage.IDLE else timeouts.header)

    @property
    def unfinished(self) -> str:
        """What a close would lose besides the current request, as a text for the log. Empty if nothing."""
        if self.stage is Stage.PREFACE and self.is_bound:
            return "its TLS handshake was not over"
        if self.stage in AT_REST and (self.residual or self.unread):
            return "a part of a request was here"
        if self.stage in AT_REST and not self._begun:
            return "it had only just arrived"
        if self.stage is Stage.LINGERING and self.unsent:
            return "the client had not read the whole response"
        return ""

    # ---- handover

    def _mark_movable(self) -> None:
        """Let the master move it while this process hangs: nothing was read of the next request."""
        if self._is_direct and self._socket.fileno() >= 0:  # Not if the response has found that the client has gone.
            self._is_marked = True
            self._context.in_hand.can_move(self._descriptor)

    def _unmark(self) -> None:
        if self._is_marked:
            self._is_marked = False
            self._context.in_hand.cannot_move(self._descriptor)

    @property
    def movable(self) -> bool:
        """Whether another process can take over the connection: it is between requests and has written everything."""
        return (
            self._begun
            and self.stage in AT_REST
            and self.writable
            and len(self.residual) <= RESIDUAL_LIMIT
            and not self.is_bound
        )

    @property
    def may_still_move(self) -> bool:
        """Whether it can be handed over, now or soon: also if it has only just arrived, or is already offered."""
        return (self.stage in AT_REST or self.stage is Stage.DETACHED) and not self.is_bound

    @property
    def is_bound(self) -> bool:
        """Whether it can never be handed over, because TLS has begun and only this process can decrypt the bytes."""
        return self._tls is not None and not self._tls.is_untouched

    @property
    def residual(self) -> bytes:
        """The bytes that were read and not answered. They have to move with the connection."""
        return self._early or self._unanswered

    def detach(self) -> CarriedState:
        """Stop reading, and return the state that travels with the descriptor. Raises RuntimeError if not movable."""
        if not self.movable:
            raise RuntimeError("the connection cannot move now")
        self._log_debug("offered to another worker")
        self._unmark()
        self.stop_reading()
        self.stage = Stage.DETACHED
        self.deadline.never()
        return CarriedState(self.residual, self.peer, self.local, self.scheme, self.requests, self._awaits_header)

    def release(self) -> None:
        """Close our copy of the socket: another process has acknowledged the connection. The client notices nothing."""
        self._log_debug("given to another worker")
        self._transport.abort()

    def resume(self) -> None:
        """Continue to serve the connection here: the handover failed."""
        if self.stage is Stage.DETACHED:
            self._log_debug("kept")
            self._start()
