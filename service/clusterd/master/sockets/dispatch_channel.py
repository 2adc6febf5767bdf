"""What the master has dealt to one worker: connections on their way, each kept until the worker has it.

By the protocol of wire/passing.py a worker answers before it reads a byte, and what it has not answered for is still
the master's, whatever becomes of the worker.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

from clusterd.linux.address import Address
from clusterd.metrics.row import Row
from clusterd.metrics.scoreboard import SILENT_NANOSECONDS
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.messages import ProtocolError
from clusterd.wire.packets import close_all, receive, send
from clusterd.wire.passing import Answer, Decline, Offer

MOST_UNACKNOWLEDGED = 64
"""Connections on their way to one worker. A queue of packets holds four times as many, and a worker that lives takes
them within a turn of its loop: beyond it they wait with the kernel, where any worker can have them."""

BLOCKED_SECONDS = 0.05
"""How long a worker gets nothing that had no descriptor for a connection: it will hardly have one for the next."""


class Availability(IntEnum):
    """What a worker would do with a connection, from the best to the worst."""

    READY = 0
    """Serve it."""
    SILENT = 1
    """Let it wait: its loop is busy, or the process is stopped."""
    FULL = 2
    """Send it away: it has as many as limits.connections allows."""
    BLOCKED = 3
    """Nothing: too many are on their way already."""


def next_in_turn(availabilities: Iterable[Availability]) -> int | None:
    """The place of the one whose turn it is; `availabilities` begin with whoever has waited longest.

    The first that serves, else the first of the best there are; None where nobody can take anything.
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
    """A connection that no worker has yet. `peer` and `local` as CarriedState has them; None also: ask the socket."""

    sock: socket.socket
    peer: Address | None
    local: Address | None
    scheme: str

    def carried(self, *, awaits_header: bool) -> CarriedState:
        """What a worker has to know of it."""
        return CarriedState(b"", self.peer, self.local, self.scheme, 0, awaits_header)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration of a worker's generation says of its connections."""

    most_connections: int
    awaits_header: bool


@dataclass(frozen=True, slots=True)
class _Dealt:
    accepted: Accepted
    at: float
    """By time.monotonic."""


class DispatchChannel:
    """The master's end of the socketpair to one worker.

    `on_news` is called when the worker has answered for something, or can be dealt to again; `on_end` when it will
    answer no more.
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
        sock.setblocking(False)
        self.serial = serial
        self._socket = sock
        self._loop = loop
        self._row = row
        self._terms = terms
        self._on_news = on_news
        self._on_end = on_end
        self._number = 0
        self._unacknowledged: dict[int, _Dealt] = {}
        self._declined: list[Accepted] = []
        self._blocked: asyncio.TimerHandle | None = None
        """Running while the worker cannot be dealt to."""
        self._open = True
        loop.add_reader(sock.fileno(), self.read)

    @property
    def is_clear(self) -> bool:
        """Whether the worker has everything that it was dealt."""
        return not self._unacknowledged

    def has_room(self) -> bool:
        """Whether one more can be dealt."""
        return self._blocked is None and len(self._unacknowledged) < MOST_UNACKNOWLEDGED

    def is_full(self) -> bool:
        """Whether the worker has as many connections as it may have.

        What is on its way does not count: the worker may have counted it already. It declines what is too much.
        """
        return self._row.connections >= self._terms.most_connections

    def availability(self, now: float) -> Availability:
        """What would become of a connection that is dealt now."""
        if not self.has_room():
            return Availability.BLOCKED
        if self.is_full():
            return Availability.FULL
        return Availability.SILENT if is_silent(self._row, now) else Availability.READY

    def is_late(self, since: float) -> bool:
        """Whether what was dealt before `since` is still on its way."""
        return next((dealt.at < since for dealt in self._unacknowledged.values()), False)

    def is_stuck(self, now: float) -> bool:
        """Whether something is on its way, and the worker's loop does not turn."""
        return not self.is_clear and is_silent(self._row, now)

    def deal(self, accepted: Accepted, *, anyway: bool) -> bool:
        """Pass a connection on; False when that is not possible now, and it stays the caller's.

        A full worker sends the client away where it has to take it `anyway`, else it declines.
        """
        carried = accepted.carried(awaits_header=self._terms.awaits_header)
        offer = Offer(self._number + 1, carried.to_json(), anyway)
        try:
            send(self._socket, offer.encode(), [accepted.sock.fileno()])
        except OSError:
            # Full, or the worker is gone: reading will say so.
            self._block()
            return False
        self._number += 1
        self._unacknowledged[self._number] = _Dealt(accepted, monotonic())
        return True

    def take_declined(self) -> list[Accepted]:
        """What the worker would not have; it is the caller's again."""
        declined, self._declined = self._declined, []
        return declined

    def end(self) -> list[Accepted]:
        """What the worker does not have; it is the caller's again, and nothing can be dealt any more.

        Reading is shut down first: from then on no answer can be given, so those that are in the queue are all there
        will ever be.
        """
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.shutdown(socket.SHUT_RD)
            self._read_answers()
            self._socket.close()
            if self._blocked is not None:
                self._blocked.cancel()
        left = [dealt.accepted for dealt in self._unacknowledged.values()]
        self._unacknowledged.clear()
        return [*self.take_declined(), *left]

    def fileno(self) -> int:
        """The descriptor that answers come to."""
        return self._socket.fileno()

    def read(self) -> None:
        """Take the answers that are here."""
        if self._read_answers():
            self._on_news(self)
        else:
            self._on_end(self)

    def _read_answers(self) -> bool:
        """False when the worker will not answer any more, or says what it should not."""
        while True:
            try:
                packet = receive(self._socket)
                if packet is None:
                    return False
                close_all(packet.descriptors)
                answer = Answer.decode(packet.data)
                dealt = self._unacknowledged.pop(answer.number)
            except BlockingIOError:
                return True
            except (OSError, ProtocolError, KeyError):
                return False
            if answer.declined is None:
                dealt.accepted.sock.close()
                continue
            self._declined.append(dealt.accepted)
            if answer.declined is Decline.NO_DESCRIPTOR:
                self._block()

    def _block(self) -> None:
        if self._blocked is None:
            self._blocked = self._loop.call_later(BLOCKED_SECONDS, self._unblock)

    def _unblock(self) -> None:
        self._blocked = None
        self._on_news(self)


def is_silent(row: Row, now: float) -> bool:
    """Whether the loop of the worker with this row has not turned for some time; `now` is time.monotonic()."""
    return row.heartbeat < now * 1e9 - SILENT_NANOSECONDS
