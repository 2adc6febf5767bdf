"""What the master has dealt to one worker: connections on their way, each kept until the worker has it.

The protocol is that of worker/handover.py, and so is the promise: a worker answers before it reads a byte, and what it
has not answered for is still the master's, whatever becomes of the worker.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from time import monotonic

from clusterd.http.carried import Address, CarriedState
from clusterd.metrics.row import Row
from clusterd.wire.messages import ProtocolError
from clusterd.wire.packets import close_all, receive, send

MOST_UNACKNOWLEDGED = 64
"""Connections on their way to one worker. A queue of packets holds four times as many, and a worker that lives takes
them within a turn of its loop: beyond it they wait with the kernel, where any worker can have them."""

SILENT_SECONDS = 0.6
"""A worker whose loop has not turned for so long, more than two of its ticks, is no help."""

SCHEME = "http"


class Standing(IntEnum):
    """What a worker would do with a connection, from the best to the worst."""

    READY = 0
    """Serve it."""
    SILENT = 1
    """Let it wait: its loop is busy, or the process is stopped."""
    FULL = 2
    """Send it away: it has as many as limits.connections allows."""
    BLOCKED = 3
    """Nothing: too many are on their way already."""


def next_in_turn(standings: Iterable[Standing]) -> int | None:
    """The place of the one whose turn it is; `standings` begin with whoever has waited longest.

    The first that serves, else the first of the best there are; None where nobody can take anything.
    """
    best: tuple[Standing, int] | None = None
    for place, standing in enumerate(standings):
        if standing is Standing.READY:
            return place
        if standing is not Standing.BLOCKED and (best is None or standing < best[0]):
            best = standing, place
    return None if best is None else best[1]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection that no worker has yet. `peer` and `local` as CarriedState has them; None also: ask the socket."""

    sock: socket.socket
    peer: Address | None
    local: Address | None

    def carried(self, *, awaits_header: bool) -> CarriedState:
        """What a worker has to know of it."""
        return CarriedState(b"", self.peer, self.local, SCHEME, 0, awaits_header)


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


class Lane:
    """The master's end of the socketpair to one worker.

    `on_answers` is called when the worker has answered for something, `on_end` when it will answer no more.
    """

    def __init__(
        self,
        serial: int,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        row: Row,
        terms: Terms,
        on_answers: Callable[["Lane"], None],
        on_end: Callable[["Lane"], None],
    ) -> None:
        sock.setblocking(False)
        self.serial = serial
        self.is_blocked = False
        """The worker declined one, or the kernel would take no more: not for now."""
        self._socket = sock
        self._loop = loop
        self._row = row
        self._terms = terms
        self._on_answers = on_answers
        self._on_end = on_end
        self._number = 0
        self._unacknowledged: dict[int, _Dealt] = {}
        self._declined: list[Accepted] = []
        self._open = True
        loop.add_reader(sock.fileno(), self._read)

    @property
    def is_clear(self) -> bool:
        """Whether the worker has everything that it was dealt."""
        return not self._unacknowledged

    def has_room(self) -> bool:
        """Whether one more can be dealt."""
        return not self.is_blocked and len(self._unacknowledged) < MOST_UNACKNOWLEDGED

    def standing(self, now: float) -> Standing:
        """What would become of a connection that is dealt now."""
        if not self.has_room():
            return Standing.BLOCKED
        if self._row.connections + len(self._unacknowledged) >= self._terms.most_connections:
            return Standing.FULL
        return Standing.SILENT if is_silent(self._row, now) else Standing.READY

    def is_late(self, since: float) -> bool:
        """Whether what was dealt before `since` is still on its way."""
        return next((dealt.at < since for dealt in self._unacknowledged.values()), False)

    def deal(self, accepted: Accepted) -> bool:
        """Pass a connection on; False when that is not possible now, and it stays the caller's."""
        carried = accepted.carried(awaits_header=self._terms.awaits_header)
        packet = json.dumps({"number": self._number + 1, "carried": carried.to_json()}).encode()
        try:
            send(self._socket, packet, [accepted.sock.fileno()])
        except OSError:
            # Full, or the worker is gone: reading will say so.
            self.is_blocked = True
            return False
        self._number += 1
        self._unacknowledged[self._number] = _Dealt(accepted, monotonic())
        return True

    def take_declined(self) -> list[Accepted]:
        """What the worker could not open; it is the caller's again."""
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
        left = [dealt.accepted for dealt in self._unacknowledged.values()]
        self._unacknowledged.clear()
        return [*self.take_declined(), *left]

    def _read(self) -> None:
        if self._read_answers():
            self._on_answers(self)
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
                number, taken = _answer(packet.data)
                dealt = self._unacknowledged.pop(number)
            except BlockingIOError:
                return True
            except (OSError, ProtocolError, KeyError):
                return False
            if taken:
                dealt.accepted.sock.close()
            else:
                self._declined.append(dealt.accepted)


def is_silent(row: Row, now: float) -> bool:
    """Whether the loop of the worker with this row has not turned for some time; `now` is time.monotonic()."""
    return row.heartbeat < (now - SILENT_SECONDS) * 1e9


def _answer(data: bytes) -> tuple[int, bool]:
    """The number that is answered for, and whether the worker has it. Raises ProtocolError."""
    try:
        match json.loads(data):
            case {"number": int(number), "taken": bool(taken)}:
                return number, taken
            case {"number": int(number)}:
                return number, True
    except (ValueError, RecursionError):
        pass
    raise ProtocolError("an answer was expected")
