"""Counts and logs the requests of a connection."""

import socket
from time import monotonic

from clusterd.http.access.sending import Sending
from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.intake import Intake
from clusterd.http.messages.reception import Request
from clusterd.http.origins.origin import Origin
from clusterd.http.ports import RefusedFor, TimedOut
from clusterd.wire.connection_state import CarriedState


class Accounted(Intake):
    """A connection whose requests are counted: in flight from their heads on, and then answered, refused or dropped."""

    __slots__ = ("_sending",)

    def __init__(self, context: ConnectionContext, sock: socket.socket, carried: CarriedState) -> None:
        super().__init__(context, sock, carried)
        self._sending = Sending()

    @property
    def origin(self) -> Origin:
        """The origin of the current request."""
        request = self._reception.request
        if request is None or not self.behind_proxy:
            return Origin(self.peer, self.local, self.scheme, tells_scheme=False)
        return self._context.origins.of(request.head.fields, self.peer, self.local, self.scheme)

    def note_timeout(self, kind: TimedOut) -> None:
        """Count the current request as ended by a timeout."""
        self._context.registry.counters.timed_out(kind)

    def _account(self, status: int) -> float:
        """Count a response, and log it if the access log wants it. Returns time.monotonic()."""
        now = monotonic()
        request = self._reception.request
        seconds, waited = (0.0, -1.0) if request is None else (now - request.started, request.waited)
        self._note_in_flight()  # A client that was too slow is answered before its request is in flight.
        self._is_in_flight = False
        self._log_answer(status, seconds, is_wanted=self._context.count(status, seconds, waited))
        if seconds >= self._context.slow and request is not None:
            self._log_slow(request, status, seconds)
        return now

    def _account_refusal(self, status: int, reason: RefusedFor) -> None:
        """Count a refused request and its response, and log it if the access log wants it."""
        self._note_dropped()
        self._context.registry.counters.request_refused(reason, status)
        request = self._reception.request
        seconds = monotonic() - request.started if request else 0.0
        if seconds >= self._context.slow and request is not None:
            self._log_slow(request, status, seconds)
        self._log_answer(status, seconds, is_wanted=self._context.is_logged(status, seconds))

    def _note_dropped(self) -> None:
        """Count the request in flight, if there is one, as over without a response of the application."""
        if self._is_in_flight:
            self._is_in_flight = False
            self._context.registry.counters.request_dropped()

    def _note_cut(self, how: str) -> None:
        """Note for the log that the response ends here, as the client has closed or reset the connection.

        What this worker drops is logged where it decides to.
        """
        request = self._reception.request
        # A response to HEAD is complete with its head.
        if request is not None and request.head.method != "HEAD" and not self.is_dropped:
            self._sending.note_cut(how)

    def _log_answer(self, status: int, seconds: float, *, is_wanted: bool) -> None:
        if self._context.access.is_on:
            request, sending = self._reception.request, self._sending
            if is_wanted or sending.reason:
                received = b"" if request else self._reception.residual
                self._context.access.write(sending.answered(request, received, self.origin.peer, status, seconds))
            sending.reset()
        elif self._sending.sent:
            self._sending.reset()  # It was on when the response began.

    def _log_slow(self, request: Request, status: int, seconds: float) -> None:
        head, peer = request.head, self.origin.peer
        client, queue = request.on_client, request.waited
        if queue < 0.0:  # The application was not called.
            client = client if request.is_complete else seconds
            queue = seconds - client
        self._context.log.warning(
            "a slow request has ended",
            method=head.method,
            target=head.target if self._context.settings.whole_targets else head.target.partition("?")[0],
            status=status,
            seconds=round(seconds, 3),
            queue=round(queue, 3),
            application=round(max(0.0, seconds - queue - client), 3),
            client=round(client, 3),
            peer=peer[0] if peer else None,
            request_id=request.id or None,
            reason=self._sending.reason or None,
        )
