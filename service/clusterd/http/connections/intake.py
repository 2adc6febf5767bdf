"""The receiving half of a connection: requests out of what the client sends, one at a time and in order."""

import socket
from http import HTTPStatus

from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.link import Link
from clusterd.http.connections.stage import RECEIVING, Stage
from clusterd.http.messages.reception import Received, Reception, Request
from clusterd.http.messages.refusal import Refusal
from clusterd.wire.connection_state import CarriedState

PIPELINE_LIMIT = 64 * 1024
"""Bytes held while an earlier request is answered; beyond it the client waits in the kernel."""

TURN_REQUESTS = 16
"""Requests of one client that are answered at once and in a row, before other connections have their turn."""

# On Python 3.11 an enum's attribute costs four times as much as a name of the module.
_IDLE, _TUNNEL, _REQUEST = Stage.IDLE, Stage.TUNNEL, Received.REQUEST


class Intake(Link):
    """Reads, and has what is complete answered by the subclass."""

    __slots__ = ("_proceeding", "_reception")

    def __init__(self, context: ConnectionContext, sock: socket.socket, carried: CarriedState) -> None:
        super().__init__(context, sock, carried)
        self._reception = Reception(context.heads, context.settings.limits, context.adapter.new_body)
        self._proceeding = False

    # ---- for the answers, which are the subclass's affair

    def _answer(self) -> None:
        """As much of the request is here as the adapter needs. Raises Refusal for what it cannot be asked."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close: what follows may be anything."""
        raise NotImplementedError

    def refuse_late(self, refusal: Refusal) -> None:
        """Refuse a request that is being answered already, as far as that can be."""
        raise NotImplementedError

    def _rest(self) -> None:
        """Wait for the next request."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """With the next request, as soon as the client has read the response to this one."""
        raise NotImplementedError

    def _pass_on(self, data: bytes) -> None:
        """Bytes of another protocol."""
        raise NotImplementedError

    # ---- requests

    @property
    def request(self) -> Request | None:
        """The request under way, being received or answered."""
        return self._reception.request

    def _go_on_with(self, early: bytes) -> None:
        if early:
            self._reception.take(early)
        self._rest()
        if self._reception.pending:
            self._proceed()

    @property
    def _unanswered(self) -> bytes:
        return self._reception.residual

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request or of those after it."""
        stage = self.stage
        if stage in RECEIVING:
            self._reception.take(data)
            if stage is not _IDLE and stage is Stage.BODY:
                self.deadline.more_of_body()
            self._proceed()
            return
        if stage is _TUNNEL:
            self._pass_on(data)
            return
        if stage is Stage.LINGERING or stage is Stage.CLOSED:
            return
        if stage is Stage.PREFACE:
            self.receive_early(data)
            return
        self._reception.take(data)
        if self._reception.is_receiving:
            self._receive_more()
        elif self._reception.pending > PIPELINE_LIMIT:
            self.stop_reading()

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
                    self._begin_answer()
                    if self.stage is _IDLE and not self._reception.pending:
                        break  # as nearly always: answered at once, and nothing more to look at
                    left -= 1
                    if not left and self.stage is _IDLE:
                        break
                elif received is Received.BODY and self._context.adapter.streams and not self._half_closed:
                    self._begin_answer()
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
        self._context.call_soon(self._proceed_now)

    def _proceed_now(self) -> None:
        self._proceeding = False
        self._proceed()

    def _receive(self) -> Received:
        try:
            return self._reception.advance()
        except OSError as error:
            self._context.log.error(f"a request's body cannot be stored: {error}")
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "the body cannot be stored") from error

    def _await_rest(self, received: Received) -> None:
        """Some of a request is here: from now on the rest is waited for."""
        self.read_on()
        if received is Received.HEAD and self.stage is Stage.IDLE:
            self.stage = Stage.HEAD
            self.deadline.rest_of_head()
        elif received is Received.BODY and self.stage is not Stage.BODY:
            self.stage = Stage.BODY
            assert self.request is not None
            self.deadline.request(self.request.started)
            self.deadline.more_of_body()
            self.invite_body()

    def invite_body(self) -> None:
        """Tell a client that waits for it to go on (RFC 9110 section 10.1.1)."""
        if self._reception.is_awaited:
            self._reception.is_awaited = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_answer(self) -> None:
        """How long it may take, and the rest of the body, depend on how much of that is here."""
        request = self._reception.request
        assert request is not None
        if not request.is_complete:
            self.deadline.request(request.started)
            self.deadline.more_of_body()
            self.read_on()
            self._hold_back()
        elif self.stage is Stage.BODY:
            self.deadline.answer()
        else:
            self.deadline.whole_request(request.started)
        self.stage = Stage.ANSWERING
        self.requests += 1
        self._answer()

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
