"""The dispatch channel to one worker: it passes connections, and keeps each until the worker has acknowledged it.

By the protocol of wire/passing.py a worker answers before it reads the first byte. A connection that it has not
answered for still belongs to the master, even if the worker dies.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from enum import IntEnum
from time import monotonic

from clusterd.linux.address import Address
from clusterd.metrics.shared.row import Row
from clusterd.metrics.shared.scoreboard import SILENT_NANOSECONDS
from clusterd.records import dataclass
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.offers import OfferSender
from clusterd.wire.passing import Decline

MOST_UNACKNOWLEDGED = 64
"""The most connections that one worker has not acknowledged. A queue of packets holds four times as many, and a
healthy worker takes them within one turn of its loop. Further connections stay in the backlog, where any worker can
get them."""

BLOCKED_SECONDS = 0.05
"""How long a worker receives nothing after it had no descriptor for a connection: the next one would fail as well."""


class Availability(IntEnum):
    """What a worker would do with a connection, from the best to the worst."""

    READY = 0
    """It would serve the connection."""
    SILENT = 1
    """It would let the connection wait: its event loop is busy, or the process is stopped."""
    FULL = 2
    """It would turn the connection away: it has as many as limits.connections allows."""
    BLOCKED = 3
    """It cannot receive a connection: too many are unacknowledged, or it has no descriptors."""


def next_in_turn(availabilities: Iterable[Availability]) -> int | None:
    """The index of the worker whose turn it is. `availabilities` begin with the worker that has waited longest.

    That is the first worker that is READY, or else the first of the best ones. None if every worker is BLOCKED.
    """
    best: tuple[Availability, int] | None = None
    for place, availability in enumerate(availabilities):
        if availability is Availability.READY:
            return place
        if availability is not Availability.BLOCKED and (best is None or availability < best[0]):
            best = availability, place
    return None if best is None else best[1]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection that no worker has yet.

    `peer` and `local` are as in CarriedState. None can also mean that the worker has to ask the socket.
    """

    sock: socket.socket
    peer: Address | None
    local: Address | None
    scheme: str

    def carried(self, *, awaits_header: bool) -> CarriedState:
        """The state that is sent to the worker with the connection."""
        return CarriedState(b"", self.peer, self.local, self.scheme, 0, awaits_header)


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings for connections in the configuration of a worker's generation."""

    most_connections: int
    awaits_header: bool


@dataclass(frozen=True, slots=True)
class _Dispatched:
    accepted: Accepted
    at: float
    """The time of the dispatch, as time.monotonic()."""


class DispatchChannel:
    """The master's end of the socketpair to one worker.

    `on_news` is called when the worker has answered, or can receive connections again. `on_end` is called when it will
    not answer any more.
    """

    def __init__(
        self,
        serial: int,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        row: Row,
        terms: Terms,
        on_news: Callable[["DispatchChannel"], None],
        on_end: Callable[["DispatchChannel"], None],
    ) -> None:
        self.serial = serial
        self._offers: OfferSender[_Dispatched] = OfferSender(sock, loop, self.read)
        self._loop = loop
        self._row = row
        self._terms = terms
        self._on_news = on_news
        self._on_end = on_end
        self._declined: list[Accepted] = []
        self._blocked: asyncio.TimerHandle | None = None
        """The timer that runs while the worker cannot receive connections."""

    @property
    def is_clear(self) -> bool:
        """Whether the worker has acknowledged every connection."""
        return not self._offers

    def has_room(self) -> bool:
        """Whether one more connection can be dispatched."""
        return self._blocked is None and len(self._offers) < MOST_UNACKNOWLEDGED

    def is_full(self) -> bool:
        """Whether the worker has as many connections as it may have.

        Unacknowledged connections do not count, because the worker may have counted them already. It declines those
        that are too many.
        """
        return self._row.connections >= self._terms.most_connections

    def availability(self, now: float) -> Availability:
        """What the worker would do with a connection that is dispatched at `now`."""
        if not self.has_room():
            return Availability.BLOCKED
        if self.is_full():
            return Availability.FULL
        return Availability.SILENT if is_silent(self._row, now) else Availability.READY

    def is_late(self, since: float) -> bool:
        """Whether a connection that was dispatched before `since` is not acknowledged yet."""
        return next((oldest.at < since for oldest in self._offers.unanswered), False)

    def is_stuck(self, now: float) -> bool:
        """Whether a connection is not acknowledged and the worker's event loop does not turn."""
        return not self.is_clear and is_silent(self._row, now)

    def dispatch(self, accepted: Accepted, *, anyway: bool) -> bool:
        """Pass a connection to the worker. Returns False if that is not possible now; the caller then keeps it.

        A worker at its limit declines the connection. With `anyway` it must take it, and turns the client away.
        """
        carried = accepted.carried(awaits_header=self._terms.awaits_header).to_json()
        dispatched = _Dispatched(accepted, monotonic())
        try:
            self._offers.offer(dispatched, accepted.sock.fileno(), carried, anyway=anyway)
        except OSError:
            # The queue is full or the worker has ended. In the latter case, reading reports the end.
            self._block()
            return False
        return True

    def take_declined(self) -> list[Accepted]:
        """Return the connections that the worker has declined. They belong to the caller again."""
        declined, self._declined = self._declined, []
        return declined

    def end(self) -> list[Accepted]:
        """Close the channel. Returns the connections that the worker does not have; they belong to the caller again."""
        self._process(self._offers.last_answers())
        left = [dispatched.accepted for dispatched in self._offers.close()]
        if self._blocked is not None:
            self._blocked.cancel()
        return [*self.take_declined(), *left]

    def fileno(self) -> int:
        """The descriptor on which answers arrive."""
        return self._offers.fileno()

    def read(self) -> None:
        """Process the answers that have arrived."""
        self._process(self._offers.answers())
        if self._offers.has_ended:
            self._on_end(self)
        else:
            self._on_news(self)

    def _process(self, answers: Iterable[tuple[_Dispatched, Decline | None]]) -> None:
        for dispatched, declined in answers:
            if declined is None:
                dispatched.accepted.sock.close()
                continue
            self._declined.append(dispatched.accepted)
            if declined is Decline.NO_DESCRIPTOR:
                self._block()

    def _block(self) -> None:
        if self._blocked is None:
            self._blocked = self._loop.call_later(BLOCKED_SECONDS, self._unblock)

    def _unblock(self) -> None:
        self._blocked = None
        self._on_news(self)


def is_silent(row: Row, now: float) -> bool:
    """Whether the event loop of the worker with this row has not turned for SILENT_NANOSECONDS.

    `now` is time.monotonic().
    """
    return row.heartbeat < now * 1e9 - SILENT_NANOSECONDS
