"""When a connection has waited long enough. The engine compares: a sweep over all of them costs less than timers."""

from math import inf
from time import monotonic

from clusterd.http.settings import Timeouts

LINGER = 2.0
"""Seconds in which a client may still send after our last response. Closing a socket that holds unread bytes
would reset the connection, and destroy what the client has not read yet (RFC 9112 section 9.6)."""


class Deadline:
    """What a connection waits for now, and until when."""

    __slots__ = ("_answer_by", "_timeouts", "due")

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._answer_by = inf
        self.due = inf
        """By time.monotonic; infinite when nothing is waited for."""

    def first_byte(self) -> None:
        """Of the next request: timeouts.keepalive."""
        self._answer_by = inf
        self.due = monotonic() + self._timeouts.keepalive

    def rest_of_head(self) -> None:
        """From its first byte on, however it trickles: timeouts.header. A PROXY header's too, from the beginning."""
        self.due = monotonic() + self._timeouts.header

    def request(self, started: float) -> None:
        """The head was complete at `started`: timeouts.request begins."""
        timeout = self._timeouts.request
        self._answer_by = inf if timeout is None else started + timeout

    def more_of_body(self) -> None:
        """Anything of it: timeouts.body."""
        self.due = min(self._answer_by, monotonic() + self._timeouts.body)

    def whole_request(self, started: float) -> None:
        """The request came as a whole: `request` and `answer` in one."""
        timeout = self._timeouts.request
        self._answer_by = self.due = inf if timeout is None else started + timeout

    def answer(self) -> None:
        """The end of the response."""
        self.due = self._answer_by

    def answer_over(self, now: float) -> bool:
        """Whether timeouts.request is what has passed."""
        return now >= self._answer_by

    def answered(self) -> None:
        """The application is through; the client may still be reading."""
        self._answer_by = inf

    def reader(self) -> None:
        """The client has to read something: timeouts.write, within what is left of timeouts.request."""
        self.due = min(self._answer_by, monotonic() + self._timeouts.write)

    def read(self) -> None:
        """The client has read everything."""
        self.due = self._answer_by

    def last_bytes(self) -> None:
        """What the client sends after the last response."""
        self.due = monotonic() + LINGER

    def within(self, seconds: float) -> None:
        """Whatever another protocol waits for."""
        self.due = monotonic() + seconds

    def never(self) -> None:
        """Nothing is waited for."""
        self._answer_by = self.due = inf
