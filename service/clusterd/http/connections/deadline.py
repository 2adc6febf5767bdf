"""The deadline of a connection. The engine checks all deadlines in one sweep, which costs less than timers."""

from math import inf
from time import monotonic

from clusterd.http.settings import Timeouts

LINGER = 2.0
"""Seconds in which a client may still send after our last response. Closing a socket that holds unread bytes resets
the connection and destroys what the client has not read yet (RFC 9112 section 9.6)."""


class Deadline:
    """The time until which a connection waits, set by a method for each event that it can wait for."""

    __slots__ = ("_answer_by", "_timeouts", "due")

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._answer_by = inf
        self.due = inf
        """A time by time.monotonic(); infinite if the connection waits for nothing."""

    def first_byte(self, now: float) -> None:
        """Wait for the first byte of the next request: timeouts.keepalive. `now` is time.monotonic()."""
        self._answer_by = inf
        self.due = now + self._timeouts.keepalive

    def rest_of_head(self) -> None:
        """Wait for the end of the head, a PROXY header or a TLS handshake, from its beginning: timeouts.header."""
        self.due = monotonic() + self._timeouts.header

    def request(self, started: float) -> None:
        """Begin timeouts.request. The head was complete at `started`."""
        timeout = self._timeouts.request
        self._answer_by = inf if timeout is None else started + timeout

    def more_of_body(self) -> None:
        """Wait for any further byte of the body: timeouts.body."""
        self.due = min(self._answer_by, monotonic() + self._timeouts.body)

    def whole_request(self, started: float) -> None:
        """Do `request` and `answer` in one step, for a request that has arrived completely."""
        timeout = self._timeouts.request
        self._answer_by = self.due = inf if timeout is None else started + timeout

    def answer(self) -> None:
        """Wait for the end of the response: the rest of timeouts.request."""
        self.due = self._answer_by

    def answer_over(self, now: float) -> bool:
        """Whether timeouts.request has passed."""
        return now >= self._answer_by

    def answered(self) -> None:
        """End timeouts.request: the application has finished. The client may still be reading."""
        self._answer_by = inf

    def await_client_read(self) -> None:
        """Wait for the client to read something: timeouts.write, but not longer than timeouts.request."""
        self.due = min(self._answer_by, monotonic() + self._timeouts.write)

    @property
    def write_seconds(self) -> float:
        """timeouts.write."""
        return self._timeouts.write

    def client_read_all(self) -> None:
        """The client has read everything. Wait for the end of the response again."""
        self.due = self._answer_by

    def last_bytes(self) -> None:
        """Wait for the client to close after the last response: LINGER."""
        self.due = monotonic() + LINGER

    def within(self, seconds: float) -> None:
        """Wait for `seconds`. Used by a tunnel."""
        self.due = monotonic() + seconds

    def never(self) -> None:
        """Wait without a deadline."""
        self._answer_by = self.due = inf
