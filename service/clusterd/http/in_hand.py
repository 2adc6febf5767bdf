"""Records in shared memory, for the master, which requests the application is handling, and which connections could be
passed to another worker (wire/in_hand.py).

It is done for every request, so it does as little as it can. A connection keeps its place from one request to the next,
in which its peer, and mostly the same request line, still stand. Then a request costs two writes of a number, and one
more where a thread runs it.
"""

from typing import Any, Final, Protocol

from clusterd.linux.address import Address
from clusterd.wire.in_hand import (
    BEGUN,
    DESCRIPTORS,
    LINE_BYTES,
    LOOP_THREAD,
    MOST_DESCRIPTORS,
    MOVABLE,
    PEER_BYTES,
    PLACES,
    TABLE_BYTES,
    TEXT_BYTES,
    TEXTS,
    THREADS,
    UNIX_PEER,
    UNNAMED,
    Kind,
)

MOST_WEBSOCKETS: Final = PLACES // 2
"""The most places for WebSockets. They are open for days, and would leave none for requests."""

_FREE: Final[Any] = 0.0
"""Without a type, so that the compiled code does not make an object of it for each request."""


class Call(Protocol):
    """What goes on for a request that its connection has left."""

    @property
    def is_running(self) -> bool:
        """Whether the application is still called."""

    @property
    def runs_in(self) -> object:
        """What runs it (call.py)."""


def method_and_target(line: bytes) -> tuple[str, str]:
    """Return them of a request line."""
    method, target, _ = line.decode("latin-1").split(" ")
    return method, target


class Place:
    """A place of the table, with copies of what stands there: to compare with them costs less than to write."""

    __slots__ = ("begun", "index", "is_taken", "is_websocket", "line", "owner", "thread")

    def __init__(self, index: int) -> None:
        self.index = index
        self.owner: object = None
        """The connection that has it. Another takes it over if none is left and no request is in it."""
        self.is_taken = False
        """Whether a request is in it."""
        self.is_websocket = False
        self.begun = 0.0
        self.line = b""
        self.thread = 0


class InHand:
    """The table of one worker. Its methods are called on the loop's thread, except `runs`.

    `memory` is a table of the scoreboard, or None where nobody reads it.
    """

    __slots__ = (
        "_begun",
        "_crowd",
        "_descriptors",
        "_free",
        "_header",
        "_last_taken",
        "_left",
        "_movable",
        "_places",
        "_texts",
        "_threads",
        "_unnamed",
        "_websockets",
        "nowhere",
    )

    def __init__(self, memory: memoryview | None = None) -> None:
        if memory is None:
            memory = memoryview(bytearray(TABLE_BYTES))
        self._header = memory[:BEGUN].cast("q")
        self._begun = memory[BEGUN:THREADS].cast("d")
        self._threads = memory[THREADS:DESCRIPTORS].cast("q")
        self._descriptors = memory[DESCRIPTORS:TEXTS].cast("q")
        self._texts = memory[TEXTS:MOVABLE]
        self._movable = memory[MOVABLE:]
        self._places = [Place(index) for index in range(PLACES)]
        self._free = self._places[::-1]
        """The places that no connection has; the last one is taken next."""
        self.nowhere = Place(PLACES)
        """What a connection has that has no place."""
        self._crowd = Place(PLACES)
        """What a connection has whose request is only counted, because all places are taken."""
        self._last_taken = 0
        self._unnamed = 0
        self._websockets = 0
        self._left: list[tuple[Place, Call]] = []

    def begin(
        self, place: Place, owner: object, descriptor: int, line: bytes, peer: Address | None, started: float
    ) -> Place:
        """The application is about to be called for a request of the connection `owner`, which has `place`.

        `line` is the request line as it was sent. Returns what the connection has from now on.
        """
        if place.owner is not owner:
            place = self._take(owner, descriptor, peer)
            if place is self._crowd:
                self._count_unnamed(1)
                return place
        if place.line is not line:
            self._write_line(place, line)
        place.is_taken = True
        place.begun = started
        self._begun[place.index] = -started  # Last: from now on the texts are read.
        return place

    def end(self, place: Place, owner: object) -> Place:
        """The response to the request of `owner` is complete. Returns what the connection has from now on."""
        if place.owner is owner:
            place.is_taken = False
            self._begun[place.index] = _FREE
            return place
        return self._not_counted(place)

    def runs(self, place: Place, thread: int) -> None:
        """A thread begins to run the request. Called in that thread."""
        if place.index == PLACES:
            return
        if place.thread != thread:
            place.thread = thread
            self._threads[place.index] = thread
        self._begun[place.index] = place.begun

    def _take(self, owner: object, descriptor: int, peer: Address | None) -> Place:
        place = self._free.pop() if self._free else self._take_over()
        if place is not self._crowd:
            place.owner = owner
            self._descriptors[place.index] = descriptor
            self._write_peer(place, peer)
        return place

    def _take_over(self) -> Place:
        """Return the place of a connection that has no request in it."""
        for _ in range(PLACES):
            self._last_taken = (self._last_taken + 1) % PLACES
            place = self._places[self._last_taken]
            if not place.is_taken:
                return place
        return self._crowd

    def _count_unnamed(self, change: int) -> None:
        self._unnamed += change
        self._header[UNNAMED] = self._unnamed

    def _write_peer(self, place: Place, peer: Address | None) -> None:
        text = f"r{UNIX_PEER}\0" if peer is None else f"r{peer[0]}:{peer[1]}\0"
        data = text.encode()
        if len(data) > PEER_BYTES:
            data = data[:PEER_BYTES]
        start = place.index * TEXT_BYTES
        end = start + len(data)
        self._texts[start:end] = data

    def _write_line(self, place: Place, line: bytes) -> None:
        place.line = line
        if len(line) > LINE_BYTES:
            line = line[:LINE_BYTES]
        start = place.index * TEXT_BYTES + PEER_BYTES
        end = start + len(line)
        self._texts[start:end] = line

    # ---- what happens seldom

    def _not_counted(self, place: Place) -> Place:
        """The request of a connection that does not own `place` is over."""
        if place is self._crowd:
            self._count_unnamed(-1)
        return self.nowhere

    def closed(self, place: Place, owner: object) -> None:
        """The connection `owner` is closed, and had `place`."""
        if place.owner is owner:
            self._release(place)
        else:
            self._not_counted(place)

    def _release(self, place: Place) -> None:
        if place.is_websocket:
            place.is_websocket = False
            self._websockets -= 1
        self._begun[place.index] = _FREE
        place.is_taken = False
        place.owner = None
        self._free.append(place)

    def is_websocket(self, place: Place, owner: object) -> Place:
        """The request of `owner` has become a WebSocket. Returns what the connection has from now on."""
        if place.owner is not owner:
            return self._not_counted(place)
        if self._websockets == MOST_WEBSOCKETS:
            self._release(place)
            return self.nowhere
        self._websockets += 1
        place.is_websocket = True
        self._mark(place, Kind.WEBSOCKET)
        return place

    def left(self, place: Place, owner: object, call: Call) -> Place:
        """The connection `owner` gives up its request. Returns what it has from now on.

        The request stays in hand while `call` goes on: what it does may be what the worker dies of.
        """
        if place.owner is not owner:
            return self._not_counted(place)
        if not place.is_taken:
            return place
        if not call.is_running:
            self._release(place)
            return self.nowhere
        if place.is_websocket:
            place.is_websocket = False
            self._websockets -= 1
        self._mark(place, Kind.LEFT)
        self._descriptors[place.index] = -1
        place.owner = call
        self._left.append((place, call))
        return self.nowhere

    def _mark(self, place: Place, kind: Kind) -> None:
        self._texts[place.index * TEXT_BYTES] = kind.value

    def tick(self) -> None:
        """Free the places of calls that have ended after their connections had left them."""
        if self._left:
            left, self._left = self._left, []
            for place, call in left:
                if call.is_running:
                    self._left.append((place, call))
                else:
                    self._release(place)

    def left_requests(self) -> list[tuple[int, bytes, float, Call]]:
        """Return the place, the request line, the begin and the call of each request that its connection has left."""
        return [(place.index, place.line, place.begun, call) for place, call in self._left]

    def begun_before(self, moment: float) -> set[tuple[int, float]]:
        """Return the places of the requests that had begun at `moment`, by time.monotonic(), and when each had."""
        return {(each.index, each.begun) for each in self._places if each.is_taken and each.begun <= moment}

    def can_move(self, descriptor: int) -> None:
        """The connection can move whenever it has no request in hand, until `cannot_move`."""
        if descriptor < MOST_DESCRIPTORS:
            self._movable[descriptor] = 1

    def cannot_move(self, descriptor: int) -> None:
        """The connection cannot move, or is about to be closed."""
        if descriptor < MOST_DESCRIPTORS:
            self._movable[descriptor] = 0

    def runs_loop(self, thread: int) -> None:
        """Record which thread runs the event loop."""
        self._header[LOOP_THREAD] = thread

    def freeze(self) -> None:
        """Leave the table as it is: all that is in hand is about to be cut."""
        self._header = _copy(self._header).cast("q")
        self._begun = _copy(self._begun).cast("d")
        self._threads = _copy(self._threads).cast("q")
        self._texts = _copy(self._texts)
        self._descriptors = _copy(self._descriptors).cast("q")


def _copy(view: Any) -> memoryview:
    return memoryview(bytearray(view.tobytes()))
