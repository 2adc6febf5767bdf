"""The connection of one client. It receives and answers the requests one at a time and in order."""

import socket
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Any

from clusterd.http.access.request_ids import mark
from clusterd.http.call import Call
from clusterd.http.connections.accounting import Accounted
from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.intake import PIPELINE_LIMIT
from clusterd.http.connections.stage import AT_REST, Stage
from clusterd.http.connections.transports.transfer import FileTransfer
from clusterd.http.connections.tunnel import Tunnel
from clusterd.http.in_hand import InHand
from clusterd.http.messages.head import Fields, Head
from clusterd.http.messages.refusal import Refusal
from clusterd.http.messages.response import Encoder, refusal_response
from clusterd.wire.connection_state import CarriedState

CLIENT_CLOSED_REQUEST = 499
"""The status, as in nginx's log, of a request whose client closed the connection before the response."""

# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_IDLE, _ANSWERING, _TUNNEL = Stage.IDLE, Stage.ANSWERING, Stage.TUNNEL


class Connection(Accounted):
    """A connection, from its socket to the calls of the adapter. Created by `Engine.adopt`."""

    __slots__ = ("call", "kept", "tunnel")

    def __init__(self, context: ConnectionContext, sock: socket.socket, carried: CarriedState) -> None:
        super().__init__(context, sock, carried)
        self.tunnel: Tunnel | None = None
        self.call: Call | None = None
        self.kept: dict[str, Any] | None = None
        """The adapter's data about the connection, kept for the next request."""

    @property
    def in_hand(self) -> InHand:
        """The table that has the place of the current request."""
        return self._context.in_hand

    # From the link.

    def _at_rest(self) -> None:
        self._retirement.at_rest(self)

    def _forget_requests(self) -> None:
        self._end_request()
        self._reception.drop()

    # From the transport.

    @property
    def awaits_only_response(self) -> bool:
        """Whether the request is complete, nothing came after it, and its response has only to be made."""
        return (
            self.stage is _ANSWERING
            and self.call is not None
            and self._outflow.is_clear
            and not self._reception.is_receiving
            and not self._reception.pending
            and not self.half_closed
        )

    def eof_received(self) -> bool:
        """The client has closed its sending side. The requests that it has sent are still answered."""
        self.half_closed = True
        self._log_debug("half-closed by its client")
        if self._reception.is_receiving:
            return self._reception.is_paused  # Otherwise the rest of the body cannot arrive.
        if self.call is not None:
            self.call.client_closed()
        return (
            self.stage in (Stage.ANSWERING, Stage.FLUSHING)
            or self._proceeding  # Over TLS the end can arrive in one piece with requests that are still to be parsed.
            or (self.stage is Stage.LINGERING and not self.writable)  # Closed when the last response is out.
        )

    def connection_lost(self, error: Exception | None) -> None:
        """The client has gone, or `close` is complete."""
        self._log_debug("closed" if error is None else f"lost: {error}")
        if self._is_in_flight and not self.is_dropped:
            self._context.registry.counters.client_aborted()
        if self.stage is _ANSWERING:
            self._note_cut("reset" if error is not None else "closed")
            self._account(CLIENT_CLOSED_REQUEST)
        if self.tunnel is not None:
            self._context.registry.tunnels_changed(-1)
        if error is None and self.stage is not Stage.DETACHED:
            self.shut_down()
        self.stage = Stage.CLOSED
        self._unmark()
        self.deadline.never()
        self._end_request()
        self._context.in_hand.closed(self.place, self)
        self.place = self._context.in_hand.nowhere
        self._context.registry.closed(self)

    def pause_writing(self) -> None:
        """The kernel did not take everything: the client reads too slowly, or not at all."""
        self._outflow.stop()
        if self.stage not in AT_REST:  # At rest only TLS itself has written, and the deadline stays the same.
            self.deadline.await_client_read()

    def resume_writing(self) -> None:
        """The kernel has taken everything that was written."""
        if self._outflow.has_file():
            self._send_on()
            return
        self._outflow.clear()
        if self.stage in AT_REST:
            return
        self.deadline.client_read_all()
        if self.stage is Stage.LINGERING:
            self.deadline.last_bytes()
            if self.half_closed:
                self._transport.close()
        elif self.stage is Stage.FLUSHING:
            self._rest(monotonic())
            self._proceed()
        elif self._reception.is_receiving and self._reading:
            self.deadline.more_of_body()
        if (self.stage is _ANSWERING or self.stage is _TUNNEL) and self.call is not None:
            self.call.resume()

    # Requests.

    def _answer(self) -> None:
        self._context.adapter.answer(self)

    def _pass_on(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.receive(data)

    @property
    def persistent(self) -> bool:
        """Whether the connection may be used again after the response to the current request."""
        request = self._reception.request
        framing = None if request is None else request.head.framing
        return (
            framing is not None
            and framing.persists
            and (not self.half_closed or self._reception.pending > 0)  # Earlier requests are still answered.
            and not self._reception.is_awaited  # The client may or may not send the body.
            and not self._retirement.is_closing
            and not (self._tls is not None and self._retirement.is_handing_over)  # It cannot be handed over.
        )

    # Responses: called by the adapter, and for refusals.

    def send(self, data: bytes) -> None:
        """Send a part of the response."""
        if data and self.stage is _ANSWERING:
            self._context.sent += len(data)
            if self._context.access.is_on:
                self._sending.add(data)
            self._transport.write(data)

    @property
    def takes_files(self) -> bool:
        """Whether sendfile(2) can be used. Over TLS a file must be read to be encrypted."""
        return self._tls is None

    def send_file(self, transfer: FileTransfer) -> None:
        """Send a part of the response from a file, after what was sent before. Like `send` with all of its bytes."""
        if self.stage is _ANSWERING:
            self._socket.setblocking(False)  # The inline transport may have a blocking socket.
            self._outflow.transfer = transfer
            if self._outflow.is_clear:
                self._send_on()

    def _send_on(self) -> None:
        outflow = self._outflow
        if not outflow.has_file():
            return  # The file was dropped before its turn came.
        transfer = outflow.transfer
        before = 0 if transfer is None else transfer.sent
        went_out = outflow.send_on(self._socket)
        if transfer is not None:
            self._context.sent += transfer.sent - before
            if self._context.access.is_on:
                self._sending.sent += transfer.sent - before
        if outflow.has_file():
            self.pause_writing()
            if went_out:
                self._context.call_soon(self._send_on)
        elif went_out and not outflow.is_clear:
            self.resume_writing()

    def yield_turn(self) -> None:
        """Call `Call.resume` again after other connections have had their turn."""
        self._context.call_soon(self._resume_call)

    def _resume_call(self) -> None:
        if self.stage is _ANSWERING and self.writable and self.call is not None:
            self.call.resume()

    def finish(self, status: int, *, persistent: bool) -> None:
        """The response to the current request has been sent completely."""
        if self.stage is _ANSWERING:
            self._end_response(self._account(status), persistent=persistent)

    def _end_response(self, now: float, *, persistent: bool) -> None:
        self.place = self._context.in_hand.end(self.place, self)
        if not persistent or (self.half_closed and not self._reception.pending):
            self.deadline.answered()
            if self._is_client_through:
                self.close()
            else:
                self.close_politely()
        elif self._reception.is_receiving:
            self.deadline.answered()
            self._skip_body()
        else:
            self._go_on(now)

    @property
    def _is_client_through(self) -> bool:
        """Whether the client has announced its last request and has sent nothing more.

        The connection then need not linger, because a close resets only a connection that holds unread bytes.
        """
        request = self._reception.request
        if request is None or self._reception.pending or self._reception.is_receiving or request.head.framing is None:
            return False
        return not request.head.framing.persists

    def _skip_body(self) -> None:
        """Read and drop the rest of the body. The next request comes after it."""
        self.stage = Stage.SKIPPING
        self._unmark()
        if self.request is not None and self.request.body is not None:
            self.request.body.close()
        self.read_on()
        self.deadline.more_of_body()

    def _go_on(self, now: float) -> None:
        """Continue with the next request as soon as the client has read the response to this one."""
        if self._outflow.is_clear:
            self._rest(now)
            if self._reception.pending and not self._proceeding:
                self._proceed_later()
        else:
            self.deadline.answered()
            self.deadline.await_client_read()
            self._unmark()
            self.stage = Stage.FLUSHING

    def break_off(self, status: int, *, is_client_gone: bool = False) -> None:
        """Close, because the response cannot be completed: only a close can tell the client so.

        `is_client_gone`: the application has ended the response because the client has left.
        """
        if self.stage is _ANSWERING:
            if is_client_gone:
                self._note_cut("closed")
                self._context.registry.counters.client_aborted()
                status = CLIENT_CLOSED_REQUEST
            else:
                self._sending.reason = self._sending.reason or "the response is incomplete"
            self._account(status)
            self.close_politely()  # The request stays in hand if its call goes on.
            self.place = self._context.in_hand.end(self.place, self)

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close: the bytes that follow cannot be interpreted."""
        self._drop_call()
        self.stage = _ANSWERING
        self.deadline.never()
        if self.request:
            head = self.request.head
        else:
            method = "HEAD" if self._reception.begins_head_request else "GET"
            head = Head(method, "/", 1, Fields({}, []))
        response, body = refusal_response(refusal)
        self._sending.reason = refusal.reason
        if self.request and self._context.ids is not None:
            self._context.ids.name(self.request, self.behind_proxy)
            mark(response, self.request.returned_id)
        self.send(Encoder(head, persistent=False).whole(response, self._context.stamp, body))
        if refusal.refused_for is None:
            self.finish(refusal.status.value, persistent=False)
        else:
            self._account_refusal(refusal.status.value, refusal.refused_for)
            self._end_response(monotonic(), persistent=False)

    def refuse_late(self, refusal: Refusal) -> None:
        """Refuse a request that is being answered. If the response has begun, only close the connection."""
        if self.stage is not _ANSWERING:
            self.close_politely()
        elif self.call is not None and self.call.started:
            self._sending.reason = refusal.reason
            self.break_off(refusal.status.value)
        else:
            self.refuse(refusal)

    def cut(self) -> None:
        """Drop the connection, whose request was logged."""
        self._sending.is_cut_here = True
        self.abort()

    def client_left(self) -> None:
        """Drop the connection, because the client has left within its request."""
        if self._is_in_flight:
            self._context.registry.counters.client_aborted()
        self.abort()

    def give_up(self, reason: str) -> None:
        """Drop the connection and say why in the log: the client gets only a part of the response."""
        self._sending.reason = reason
        self.abort()

    def _rest(self, now: float) -> None:
        """Wait for the next request. `now` is time.monotonic()."""
        request = self._reception.request
        if self.call is not None or (request is not None and request.body is not None):
            self._drop_call()
        self._reception.finish()
        self.stage = _IDLE
        self.deadline.first_byte(now)
        if self._reception.pending:
            self._unmark()
        elif not self._is_marked and (self.requests or self._begun):  # Not where the first request may be the last.
            self._mark_movable()
        if not self._reading and self._reception.pending <= PIPELINE_LIMIT:
            # Pipelined requests are answered first. Reading more with each request would buffer ever more.
            self.read_on()
        if self._retirement.is_under_way and self._begun:
            self._at_rest()

    def _drop_call(self) -> None:
        """Drop the call of the current request: it is answered, or the client does not wait for the response."""
        request = self.request
        call, self.call = self.call, None
        if self._outflow.has_file():
            self._outflow.drop_file()  # Before the call closes the file.
        if call is not None:
            call.disconnected()  # A thread may be reading the body. The last reader closes it.
            self.place = self._context.in_hand.left(self.place, self, call)
        elif request is not None and request.body is not None:
            request.body.close()
        if request is not None:
            request.body = None

    def _end_request(self) -> None:
        self._note_dropped()
        self._drop_call()
        self._reception.finish()

    # Another protocol.

    def switch(self, tunnel: Tunnel) -> None:
        """Switch to another protocol. The response to the current request was a 101 and has been sent.

        The request is counted now, so that its duration is that of the response and not of a tunnel that lasts days.
        """
        self._account(HTTPStatus.SWITCHING_PROTOCOLS.value)
        self.place = self._context.in_hand.is_websocket(self.place, self)
        self.deadline.answered()
        self.stage = _TUNNEL
        self._unmark()
        self.tunnel = tunnel
        self._context.registry.tunnels_changed(1)
        early = self._reception.residual
        self._reception.drop()
        self.read_on()
        tunnel.receive(early)
        self.depart()
        if self.half_closed and self.stage is _TUNNEL:
            self.close()  # The client will send nothing more.

    def write(self, data: bytes) -> None:
        """Send bytes of the other protocol."""
        if self.stage is _TUNNEL:
            self._context.sent += len(data)
            self._transport.write(data)

    def in_next_turn(self, call: Callable[[], object]) -> None:
        """Have the other protocol go on with bytes that it has, after other connections have had their turn."""
        self._context.turns.add(call)

    def leave(self) -> None:
        """End the other protocol: close as soon as the client has read everything."""
        if self.stage is _TUNNEL:
            self.close_politely()

    def depart(self) -> None:
        """If the server is draining, have the other protocol tell the client."""
        departure = self._retirement.departure
        if departure is not None and self.stage is _TUNNEL and self.tunnel is not None:
            self.tunnel.depart(departure)
