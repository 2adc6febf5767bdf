"""The receiving half of a connection: reads requests one at a time and in order."""

import socket
from http import HTTPStatus
from time import monotonic

from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.link import Link
from clusterd.http.connections.stage import RECEIVING, Stage
from clusterd.http.messages.reception import Received, Reception, Request
from clusterd.http.messages.refusal import Refusal
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.in_hand import PLACES

PIPELINE_LIMIT = 64 * 1024
"""Maximum bytes buffered while an earlier request is answered. Beyond it the connection stops reading."""

TURN_REQUESTS = 4
"""Maximum requests of one client that are answered in a row before other connections have their turn."""

MOST_DROPPED = 1 << 30
"""Maximum bytes that are read and dropped after the last response of a connection."""

DROPPED_STEP = 1 << 16
"""The client has timeouts.body for so many of them, so that one that sends a byte now and then is not waited for."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_IDLE, _TUNNEL, _REQUEST = Stage.IDLE, Stage.TUNNEL, Received.REQUEST


class Intake(Link):
    """Reads requests. The subclass answers them."""

    __slots__ = ("_awaits_turn", "_dropped", "_is_in_flight", "_proceeding", "_reception", "place")

    def __init__(self, context: ConnectionContext, sock: socket.socket, carried: CarriedState) -> None:
        super().__init__(context, sock, carried)
        self._reception = Reception(context.heads, context.settings.limits, context.adapter.new_body)
        self._proceeding = False
        self._awaits_turn = False
        """Whether the decoding of a body goes on in the loop's next round."""
        self._dropped = 0
        """Bytes that came after the last response."""
        self._is_in_flight = False
        """Whether the current request is counted as in flight."""
        self.place = context.in_hand.nowhere
        """The place of its requests among those in hand (in_hand.py)."""

    # ---- answers, implemented by the subclass

    def _answer(self) -> None:
        """Answer the current request: as much of it as the adapter needs has arrived. Raises Refusal."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close: the bytes that follow cannot be interpreted."""
        raise NotImplementedError

    def refuse_late(self, refusal: Refusal) -> None:
        """Refuse a request that is being answered. If the response has begun, only close the connection."""
        raise NotImplementedError

    def _rest(self, now: float) -> None:
        """Wait for the next request. `now` is time.monotonic()."""
        raise NotImplementedError

    def _go_on(self, now: float) -> None:
        """Continue with the next request as soon as the client has read the response to this one."""
        raise NotImplementedError

    def _pass_on(self, data: bytes) -> None:
        """Take bytes of another protocol."""
        raise NotImplementedError

    # ---- requests

    @property
    def request(self) -> Request | None:
        """The current request, which is being received or answered."""
        return self._reception.request

    def _go_on_with(self, early: bytes) -> None:
        if early:
            self._reception.take(early)
        self._rest(monotonic())
        if self._reception.pending:
            self._proceed()

    @property
    def _unanswered(self) -> bytes:
        return self._reception.residual

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request or of those after it."""
        self._context.received += len(data)
        stage = self.stage
        if stage in RECEIVING:
            self._reception.take(data)
            if stage is not _IDLE and stage is Stage.BODY:
                self.deadline.more_of_body()
            self._proceed()
            if self._reception.pending > PIPELINE_LIMIT and self.stage not in RECEIVING:
                self.stop_reading()
            return
        if stage is _TUNNEL:
            self._pass_on(data)
            return
        if stage is Stage.LINGERING:
            self._drop(len(data))
            return
        if stage is Stage.CLOSED:
            return
        if stage is Stage.PREFACE:
            self.receive_early(data)
            return
        self._reception.take(data)
        if self._reception.is_receiving:
            self._receive_more()
        elif self._reception.pending > PIPELINE_LIMIT:
            self.stop_reading()

    def _drop(self, count: int) -> None:
        """Drop bytes that come after the last response, and wait for more while they come.

        A client that is told in the middle of its upload that it is too large (413) mostly goes on to its end, and only
        then reads the response.
        """
        before, self._dropped = self._dropped, self._dropped + count
        if self._dropped > MOST_DROPPED:
            self.abort()
        elif self.writable and self._dropped // DROPPED_STEP != before // DROPPED_STEP:
            self.deadline.more_of_body()

    def _proceed(self) -> None:
        """Parse and answer the requests in the buffer as long as each is answered at once."""
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
                        break  # The most common case: answered at once, and the buffer is empty.
                    left -= 1
                    if not left and self.stage is _IDLE:
                        break
                elif received is Received.BODY and self._context.adapter.streams and not self.half_closed:
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
        elif self.half_closed and self.stage in RECEIVING and not self._reception.is_paused:
            self.close()  # The missing bytes cannot arrive any more.

    def _proceed_later(self) -> None:
        """Continue after other connections have had their turn, and read nothing until then."""
        self._proceeding = True
        self.stop_reading()
        self._context.turns.add(self._proceed_now)

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
        """Wait for the rest of a request, if any of it has arrived."""
        if received is not Received.NOTHING or self._reception.pending:  # Half an empty line is nothing, but was read.
            self._unmark()
        self._receive_on()
        if received is Received.HEAD and self.stage is Stage.IDLE:
            self.stage = Stage.HEAD
            self.deadline.rest_of_head()
        elif received is Received.BODY and self.stage is not Stage.BODY:
            self.stage = Stage.BODY
            self._note_in_flight()
            assert self.request is not None
            self.deadline.request(self.request.started)
            self.deadline.more_of_body()
            self.invite_body()

    def invite_body(self) -> None:
        """Send `100 Continue` if the client waits for it (RFC 9110 section 10.1.1)."""
        if self._reception.is_awaited:
            self._reception.is_awaited = False
            self._context.sent += len(_CONTINUE)
            self._transport.write(_CONTINUE)

    def _begin_answer(self) -> None:
        """Set the deadline, which depends on how much of the body has arrived, and answer the request."""
        request = self._reception.request
        assert request is not None
        if not request.is_complete:
            self.deadline.request(request.started)
            self.deadline.more_of_body()
            self._receive_on()
        elif self.stage is Stage.BODY:
            request.on_client = monotonic() - request.started
            self.deadline.answer()
        else:
            self.deadline.whole_request(request.started)
        self.stage = Stage.ANSWERING
        self.requests += 1
        ids = self._context.ids
        if ids is not None:
            ids.name(request, self.behind_proxy)
        self._note_in_flight()
        place = self._context.in_hand.begin(
            self.place, self, self._descriptor, request.head.line, self.peer, request.started
        )
        self.place = place
        if place.index == PLACES:
            self._unmark()  # Nothing says that the request is in hand.
        self._answer()

    def _note_in_flight(self) -> None:
        """Count the request as in flight, before the application is called: it may block the loop."""
        if not self._is_in_flight:
            self._is_in_flight = True
            self._context.registry.counters.request_begun()

    def _receive_more(self) -> None:
        """Receive more of a body whose request is being answered or was answered."""
        try:
            received = self._receive()
        except Refusal as refusal:
            self.refuse_late(refusal)
            return
        if received is Received.BODY:
            if self.writable:
                self.deadline.more_of_body()
            self._receive_on()
        elif self.stage is Stage.SKIPPING:
            self._go_on(monotonic())
        elif self.writable:
            self.deadline.answer()

    def _receive_on(self) -> None:
        """Receive more of a request: decode what is here of its body, or read.

        Do neither while the application has not taken what has arrived. timeouts.body does not run meanwhile.
        """
        body = self.request.body if self.request else None
        if body is not None and body.is_full:
            if self._reading or self._awaits_turn:
                self.stop_reading()
                self.deadline.answer()
        elif self._reception.is_paused:
            self.stop_reading()
            if not self._awaits_turn:
                self._awaits_turn = True
                self._context.turns.add(self._receive_in_turn)
        elif self.half_closed and self.stage in (Stage.ANSWERING, Stage.SKIPPING):
            self.close()  # The rest of the body cannot arrive.
        else:
            self.read_on()

    def _receive_in_turn(self) -> None:
        self._awaits_turn = False
        if not (self._reception.is_receiving and self._reception.is_paused):
            return
        if self.stage is Stage.BODY:
            self._proceed()
        elif self.stage in (Stage.ANSWERING, Stage.SKIPPING):
            self._receive_more()

    def take_more(self) -> None:
        """Receive more: the application has taken what had arrived of the body."""
        if self._reception.is_receiving and not self._reading and not self._awaits_turn:
            self._receive_on()
            if self.writable:
                self.deadline.more_of_body()
