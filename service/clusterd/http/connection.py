"""One client's connection: its requests answered one at a time and in order, its timeouts, its end or its move."""

import asyncio
import socket
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from clusterd.http.call import Call
from clusterd.http.carried import RESIDUAL_LIMIT, Address, CarriedState
from clusterd.http.deadline import Deadline
from clusterd.http.framing import framing_of
from clusterd.http.head import Fields, Head
from clusterd.http.origin import Origin
from clusterd.http.proxy_protocol import MalformedProxyHeader
from clusterd.http.reception import Received, Reception, Request
from clusterd.http.refusal import Refusal
from clusterd.http.response import Encoder, refusal_response
from clusterd.http.stage import AT_REST, RECEIVING, Stage
from clusterd.http.stream import Stream
from clusterd.http.tls import TlsLayer
from clusterd.http.transfer import FileTransfer
from clusterd.http.tunnel import Tunnel

if TYPE_CHECKING:
    from clusterd.http.engine import Engine

PIPELINE_LIMIT = 64 * 1024
"""Bytes held while an earlier request is answered; beyond it the client waits in the kernel."""

TURN_REQUESTS = 16
"""Requests of one client that are answered at once and in a row, before other connections have their turn."""

CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a request whose client did not wait for the answer."""

_GONE = ("", 0)
"""The address of a client that is gone already."""

# On Python 3.11 an enum's attribute costs four times as much as a name of the module.
_IDLE, _ANSWERING, _TUNNEL, _REQUEST = Stage.IDLE, Stage.ANSWERING, Stage.TUNNEL, Received.REQUEST


class Connection(Stream):
    """A connection, from its socket to the calls of the adapter; made by `Engine.adopt`."""

    __slots__ = (
        "_awaits_header",
        "_begun",
        "_engine",
        "_proceeding",
        "_reception",
        "_socket",
        "_tls",
        "behind_proxy",
        "call",
        "deadline",
        "kept",
        "local",
        "peer",
        "requests",
        "scheme",
        "stage",
        "tunnel",
    )

    def __init__(
        self,
        engine: "Engine",
        sock: socket.socket,
        carried: CarriedState | None,
        peer: Address | None = None,
        local: Address | None = None,
        scheme: str = "http",
    ) -> None:
        super().__init__()
        self._engine = engine
        self._socket = sock
        self._reception = Reception(
            engine.heads, engine.settings.limits, engine.adapter.new_body, carried.residual if carried else b""
        )
        self._proceeding = False
        self._begun = False
        self._awaits_header = carried.awaits_header if carried else engine.origins.expects_header
        self._tls: TlsLayer | None = None
        self.tunnel: Tunnel | None = None
        self.stage = _IDLE
        self.call: Call | None = None
        self.deadline = Deadline(engine, engine.settings.timeouts)
        self.kept: dict[str, Any] | None = None
        """What the adapter has made of the connection, to be used again for its next request."""
        self.requests = carried.requests if carried else 0
        self.peer = carried.peer if carried else peer
        self.local = carried.local if carried else local
        self.scheme = carried.scheme if carried else scheme
        self.behind_proxy = False
        """Whether the peer is trusted to say whom a request comes from."""

    @property
    def may_begin_outside(self) -> bool:
        """Whether the first request is the first thing that comes: it can be served on the doorstep."""
        return not (self.requests or self._awaits_header or self._reception.pending) and self.scheme == "http"

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: read the first request, or go on with what came along."""
        self._enter(transport)
        # uvloop starts reading after this call, whatever was paused in it: before that nothing may move.
        if self._engine.is_handing_over:
            self._engine.call_soon(self._begin)
        else:
            self._begun = True

    def arrived(self, doorstep: asyncio.Transport) -> None:
        """Begin on the doorstep."""
        self._enter(doorstep)

    def settled(self) -> None:
        """Moved in from the doorstep: reading can be paused, and the connection be moved, from now on."""
        if not self._reading:
            self._transport.pause_reading()
        self._begin()

    def _enter(self, transport: asyncio.BaseTransport) -> None:
        self._attach(transport)
        if self.local is None and self._socket.family != socket.AF_UNIX:
            # None where the client is gone already; reading will say so.
            self.peer = self.peer or (transport.get_extra_info("peername") or _GONE)[:2]
            self.local = (transport.get_extra_info("sockname") or _GONE)[:2]
        self._engine.opened(self)
        self._start()

    def _start(self) -> None:
        """From the beginning, or where another process left off."""
        self.behind_proxy = self._engine.origins.trusts(self.peer)
        needs_tls = self.scheme == "https" and not self._is_secure
        if not self._awaits_header and not needs_tls:
            self._rest()
            if self._reception.pending:
                self._proceed()
            return
        self.stage = Stage.PREFACE
        self.deadline.rest_of_head()
        if self._awaits_header:
            self._await_header()
        else:
            self._begin_tls()
        if self.stage is Stage.PREFACE and self._engine.is_retiring:
            self._engine.at_rest(self)

    def _await_header(self) -> None:
        if not self.behind_proxy:
            # Without its header it would pass by the proxy, and with it, it could say that it is anybody.
            self._turn_away(HTTPStatus.FORBIDDEN, "it is none of trusted_proxies")
            return
        self.read_on()
        self._read_header()

    def _read_header(self) -> None:
        """The PROXY protocol's, which comes before everything else and tells who is at the other side of the proxy."""
        try:
            header = self._reception.take_proxy_header()
        except MalformedProxyHeader as error:
            self._turn_away(HTTPStatus.BAD_REQUEST, f"it began with {error}")
            return
        if header is not None:
            self._awaits_header = False
            if header.tells_peer:
                self.peer, self.local = header.peer, header.local or self.local
            self._start()

    def _begin_tls(self) -> None:
        self.read_on()
        if self._tls is None:
            context = self._engine.tls
            if context is None:
                raise RuntimeError("a connection for HTTPS, and no certificate")
            self._tls = TlsLayer(self._transport, context, self, self._secured, self._handshake_failed)
            self._transport = self._tls
        early = self._reception.residual
        if early:
            self._reception.drop()
            self._tls.data_received(early)

    @property
    def _is_secure(self) -> bool:
        return self._tls is not None and self._tls.is_open

    def _secured(self) -> None:
        self._rest()

    def _handshake_failed(self, reason: str) -> None:
        self._engine.log.debug("a TLS handshake failed", reason=reason, peer=self.peer[0] if self.peer else None)
        self.close_politely()

    def _turn_away(self, status: HTTPStatus, reason: str) -> None:
        """Close without an answer; counted as if it had been one, for that is where one looks."""
        if self.peer != _GONE:
            self._engine.origins.turned_away(self.peer, reason)
            self._engine.count(self, status.value, 0.0)
        self.close()

    def _begin(self) -> None:
        self._begun = True
        if self.stage in AT_REST:
            self._engine.at_rest(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request or of those after it."""
        stage = self.stage
        if stage in RECEIVING:
            self._reception.take(data)
            if stage is not _IDLE and stage is Stage.BODY:
                self.deadline.more_of_body()
            self._proceed()
            return
        if stage is _TUNNEL and self.tunnel is not None:
            self.tunnel.receive(data)
            return
        if stage is Stage.LINGERING or stage is Stage.CLOSED:
            return
        self._reception.take(data)
        if stage is Stage.PREFACE:
            self._read_header()
        elif self._reception.is_receiving:
            self._receive_more()
        elif self._reception.pending > PIPELINE_LIMIT:
            self.stop_reading()

    def eof_received(self) -> bool:
        """The client has closed its sending side: what it has asked for is still answered."""
        self._half_closed = True
        if self._reception.is_receiving:
            return False  # the rest of the body can not come
        if self.call is not None:
            self.call.client_closed()
        return self.stage in (Stage.ANSWERING, Stage.FLUSHING) or (
            self.stage is Stage.LINGERING and not self.writable  # closed when the last response is out
        )

    def connection_lost(self, _: Exception | None) -> None:
        """The client has gone, or `close` is through."""
        if self.stage is _ANSWERING:
            self._account(CLIENT_CLOSED_REQUEST)
        self.stage = Stage.CLOSED
        self.deadline.never()
        self._end_request()
        self._engine.closed(self)

    def pause_writing(self) -> None:
        """The kernel did not take everything: the client reads too slowly, or not at all."""
        self._outflow.stop()
        self.deadline.reader()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._outflow.transfer is not None:
            self._send_on()
            return
        self._outflow.clear()
        self.deadline.read()
        if self.stage is Stage.LINGERING:
            self.deadline.last_bytes()
            if self._half_closed:
                self._transport.close()
        elif self.stage is Stage.FLUSHING:
            self._rest()
            self._proceed()
        elif self._reception.is_receiving and self._reading:
            self.deadline.more_of_body()
        if (self.stage is _ANSWERING or self.stage is _TUNNEL) and self.call is not None:
            self.call.resume()

    # Requests.

    @property
    def request(self) -> Request | None:
        """The request under way, being received or answered."""
        return self._reception.request

    @property
    def origin(self) -> Origin:
        """Where the request under way comes from."""
        request = self._reception.request
        if request is None or not self.behind_proxy:
            return Origin(self.peer, self.local, self.scheme, tells_scheme=False)
        return self._engine.origins.of(request.head.fields, self.peer, self.local, self.scheme)

    def _proceed(self) -> None:
        """Take requests out of what was read, as long as each is answered at once."""
        if self._proceeding:
            return
        self._proceeding = True
        left = TURN_REQUESTS
        try:
            while self.stage in RECEIVING:
                received = self._receive()
                if received is _REQUEST:
                    self._answer()
                    if self.stage is _IDLE and not self._reception.pending:
                        break  # as nearly always: answered at once, and nothing more to look at
                    left -= 1
                    if not left and self.stage is _IDLE:
                        break
                elif received is Received.BODY and self._engine.adapter.streams and not self._half_closed:
                    self._answer()
                    break
                else:
                    self._await_rest(received)
                    break
        except Refusal as refusal:
            self.refuse(refusal)
        finally:
            self._proceeding = False
        if not left and self.stage is _IDLE:
            self._proceed_later()
        elif self._half_closed and self.stage in RECEIVING:
            self.close()  # nothing that is still missing can come

    def _proceed_later(self) -> None:
        """Go on when other connections have had their turn; until then, no more is read than is here."""
        self._proceeding = True
        self.stop_reading()
        self._engine.call_soon(self._proceed_now)

    def _proceed_now(self) -> None:
        self._proceeding = False
        self._proceed()

    def _receive(self) -> Received:
        try:
            return self._reception.advance()
        except OSError as error:
            self._engine.log.error(f"a request's body can not be stored: {error}")
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "the body can not be stored") from error

    def _await_rest(self, received: Received) -> None:
        """Some of a request is here: from now on the rest is waited for."""
        self.read_on()
        if received is Received.HEAD and self.stage is Stage.IDLE:
            self.stage = Stage.HEAD
            self.deadline.rest_of_head()
        elif received is Received.BODY and self.stage is not Stage.BODY:
            self.stage = Stage.BODY
            self.deadline.request()
            self.deadline.more_of_body()
            self.invite_body()

    def invite_body(self) -> None:
        """Tell a client that waits for it to go on (RFC 9110 section 10.1.1)."""
        if self._reception.is_awaited:
            self._reception.is_awaited = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self) -> None:
        """As much of the request is here as the adapter needs: have it answered."""
        if self._reception.is_receiving:
            self.deadline.request()
            self.deadline.more_of_body()
            self.read_on()
            self._hold_back()
        elif self.stage is Stage.BODY:
            self.deadline.answer()
        else:
            self.deadline.whole_request()
        self.stage = _ANSWERING
        self.requests += 1
        self._engine.adapter.answer(self)

    def _receive_more(self) -> None:
        """Of a body whose request is being answered, or has been."""
        try:
            received = self._receive()
        except Refusal as refusal:
            self.refuse_late(refusal)
            return
        if received is Received.BODY:
            if self.writable:
                self.deadline.more_of_body()
            self._hold_back()
        elif self.stage is Stage.SKIPPING:
            self._go_on()
        elif self.writable:
            self.deadline.answer()

    def _hold_back(self) -> None:
        """Read no more while the application has not taken what is here: no fault of the client's."""
        body = self.request.body if self.request else None
        if body is not None and body.is_full and self._reading:
            self.stop_reading()
            self.deadline.answer()

    def take_more(self) -> None:
        """The application has taken what was here of the body."""
        if self._reception.is_receiving and not self._reading:
            self.read_on()
            if self.writable:
                self.deadline.more_of_body()

    @property
    def persistent(self) -> bool:
        """Whether the connection may go on after the response to the request under way."""
        request = self._reception.request
        return (
            request is not None
            and framing_of(request.head, self._engine.settings.limits).persists
            and (not self._half_closed or self._reception.pending > 0)  # what it sent before is still answered
            and not self._reception.is_awaited  # whether the body will come, nobody knows
            and not self._engine.is_closing
            and not (self._tls is not None and self._engine.is_handing_over)  # it can not move
        )

    # Responses: called by the adapter, and for refusals.

    def send(self, data: bytes) -> None:
        """Send a part of the response."""
        if data and self.stage is _ANSWERING:
            self._transport.write(data)

    @property
    def takes_files(self) -> bool:
        """Whether a file can go out as it is. Over TLS it has to be read, to be encrypted."""
        return self._tls is None

    def send_file(self, transfer: FileTransfer) -> None:
        """Send a part of the response out of a file, behind what was sent before: like a write of all of it."""
        if self.stage is _ANSWERING:
            self._socket.setblocking(False)  # on the doorstep it may block
            self._outflow.transfer = transfer
            if self._outflow.is_clear:
                self._send_on()

    def _send_on(self) -> None:
        outflow = self._outflow
        if outflow.transfer is None:
            return  # given up before its turn came
        went_out = outflow.send_on(self._socket)
        if outflow.transfer is not None:
            self.pause_writing()
            if went_out:
                self._engine.call_soon(self._send_on)
        elif went_out and not outflow.is_clear:
            self.resume_writing()

    def yield_turn(self) -> None:
        """Call `resume` again when other connections have had their turn."""
        self._engine.call_soon(self._resume_call)

    def _resume_call(self) -> None:
        if self.stage is _ANSWERING and self.writable and self.call is not None:
            self.call.resume()

    def finish(self, status: int, *, persistent: bool) -> None:
        """The response to the request under way has been sent as a whole."""
        if self.stage is not _ANSWERING:
            return
        self._account(status)
        if not persistent or (self._half_closed and not self._reception.pending) or self._engine.is_closing:
            self.deadline.answered()
            if self._is_client_through:
                self.close()
            else:
                self.close_politely()
        elif self._reception.is_receiving:
            self.deadline.answered()
            self._skip_body()
        else:
            self._go_on()

    @property
    def _is_client_through(self) -> bool:
        """Whether the client has said that it asks for nothing more, and has sent nothing more.

        Then there is nothing to linger for: a close resets only a connection that holds unread bytes.
        """
        request = self._reception.request
        if request is None or self._reception.pending or self._reception.is_receiving or request.head.framing is None:
            return False
        return not request.head.framing.persists

    def _skip_body(self) -> None:
        """Read what is left of the body, for the next request comes after it."""
        self.stage = Stage.SKIPPING
        if self.request is not None and self.request.body is not None:
            self.request.body.close()
        self.read_on()
        self.deadline.more_of_body()

    def _go_on(self) -> None:
        """With the next request, as soon as the client has read the response to this one."""
        if self._outflow.is_clear:
            self._rest()
            if self._reception.pending:
                self._proceed()
        else:
            self.deadline.answered()
            self.deadline.reader()
            self.stage = Stage.FLUSHING

    def break_off(self, status: int) -> None:
        """The response can not be completed: only closing tells the client so."""
        if self.stage is _ANSWERING:
            self._account(status)
            self.close_politely()

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close: what follows may be anything."""
        self._drop_call()
        self.stage = _ANSWERING
        self.deadline.never()
        head = self.request.head if self.request else Head("GET", "/", 1, Fields({}, []))
        response, body = refusal_response(refusal)
        self.send(Encoder(head, persistent=False).whole(response, self._engine.stamp, body))
        self.finish(refusal.status.value, persistent=False)

    def refuse_late(self, refusal: Refusal) -> None:
        """Refuse a request that is being answered already, as far as that can be."""
        if self.stage is not _ANSWERING:
            self.close_politely()
        elif self.call is not None and self.call.started:
            self.break_off(refusal.status.value)
        else:
            self.refuse(refusal)

    def _account(self, status: int) -> None:
        request = self.request
        self._engine.count(self, status, monotonic() - request.started if request else 0.0)

    def _rest(self) -> None:
        """Wait for the next request; what was read of it already comes next."""
        request = self._reception.request
        if self.call is not None or (request is not None and request.body is not None):
            self._drop_call()
        self._reception.finish()
        self.stage = _IDLE
        self.deadline.first_byte()
        if not self._reading and self._reception.pending <= PIPELINE_LIMIT:
            # While more is here, it is answered first: to read on with each request would hold ever more.
            self.read_on()
        if self._engine.is_retiring:
            self._engine.at_rest(self)

    def _drop_call(self) -> None:
        """Nobody waits for the answer, or it is there."""
        request = self.request
        call, self.call = self.call, None
        if self._outflow.transfer is not None:
            self._outflow.drop_file()  # before the call closes it
        if call is not None:
            call.disconnected()  # a thread may be reading the body: it is closed by the last who does
        elif request is not None and request.body is not None:
            request.body.close()
        if request is not None:
            request.body = None

    def _end_request(self) -> None:
        self._drop_call()
        self._reception.finish()

    # Another protocol.

    def switch(self, tunnel: Tunnel) -> None:
        """The response to the request under way was 101, and has been sent: `tunnel` takes over.

        The request is counted now: its seconds are those of an answer, not of a conversation that may last for days.
        """
        self._account(HTTPStatus.SWITCHING_PROTOCOLS.value)
        self.deadline.answered()
        self.stage = _TUNNEL
        self.tunnel = tunnel
        early = self._reception.residual
        self._reception.drop()
        self.read_on()
        tunnel.receive(early)
        self.depart()
        if self._half_closed and self.stage is _TUNNEL:
            self.close()  # that was all that it will ever say

    def write(self, data: bytes) -> None:
        """Send bytes of the other protocol."""
        if self.stage is _TUNNEL:
            self._transport.write(data)

    def leave(self) -> None:
        """The other protocol is through: close, once the client has read everything."""
        if self.stage is _TUNNEL:
            self.close_politely()

    def depart(self) -> None:
        """Where the server is leaving its clients, have the other protocol say so to this one."""
        departure = self._engine.departure
        if departure is not None and self.stage is _TUNNEL and self.tunnel is not None:
            self.tunnel.depart(departure)

    # The end.

    def close_politely(self) -> None:
        """Close our side, and let the client read the last response before the rest is closed."""
        self._end_request()
        self._reception.drop()
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
        self.stage = Stage.LINGERING
        self.deadline.last_bytes()
        self._transport.close()

    def close_if_idle(self) -> None:
        """Close a connection on which no request is under way."""
        if self.stage in AT_REST:
            self.close_politely()

    # Hand-over.

    @property
    def movable(self) -> bool:
        """Whether another process can take the connection over: between requests, with everything written out."""
        return (
            self._begun
            and self.stage in AT_REST
            and self.writable
            and self._reception.pending <= RESIDUAL_LIMIT
            and not self.is_bound
        )

    @property
    def is_bound(self) -> bool:
        """Whether it can never move, because this process alone can read what comes: TLS has begun."""
        return self._tls is not None and not self._tls.is_untouched

    def detach(self) -> CarriedState:
        """Stop reading, and say what has to travel with the descriptor. Raises RuntimeError when not movable."""
        if not self.movable:
            raise RuntimeError("the connection can not move now")
        self.stop_reading()
        self.stage = Stage.DETACHED
        self.deadline.never()
        return CarriedState(
            self._reception.residual, self.peer, self.local, self.scheme, self.requests, self._awaits_header
        )

    def release(self) -> None:
        """Another process has acknowledged: drop our copy. Closing a copy sends nothing to the client."""
        self._transport.abort()

    def resume(self) -> None:
        """The hand-over came to nothing: go on here."""
        if self.stage is Stage.DETACHED:
            self._start()
