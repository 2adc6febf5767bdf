"""Decides what happens to connections: they are kept, handed over when they come to rest, or closed."""

from collections.abc import Callable, Collection
from enum import Enum, auto
from math import inf
from typing import Any, Protocol, cast

from clusterd.http.connections.tunnel import Departure


class Mode(Enum):
    """What happens to a connection after its response."""

    SERVING = auto()
    """The connection is kept."""
    HANDING_OVER = auto()
    """The connection is kept, and offered to another process as soon as it is between requests."""
    CLOSING = auto()
    """The connection is closed."""


_DEPARTURES = {Mode.HANDING_OVER: Departure.RESTART, Mode.CLOSING: Departure.STOP}


class _Leaver(Protocol):
    """The part of a connection that this module uses."""

    @property
    def movable(self) -> bool: ...

    @property
    def is_bound(self) -> bool: ...

    def depart(self) -> None: ...

    def close_if_idle(self, since: float) -> bool: ...


class Retirement:
    """Hands over or closes connections of an engine. `on_movable` takes the connections that should move."""

    def __init__(self, connections: Collection[object], on_movable: Callable[[Any], None] | None) -> None:
        self._connections = cast(Collection[_Leaver], connections)
        self._on_movable = on_movable
        self._to_give = 0
        # Plain attributes, because every request reads them.
        self.is_closing = False
        """Whether responses say `Connection: close`."""
        self.is_handing_over = False
        """Whether all connections are handed over when they come to rest."""
        self.is_under_way = False
        """Whether any connections are handed over when they come to rest."""
        self.departure: Departure | None = None
        """Why this worker leaves its clients, while it drains. A tunnel cannot be handed over and ends with it."""

    def take_back(self) -> None:
        """Keep all connections again."""
        self._enter(Mode.SERVING)

    def hand_over(self) -> None:
        """Offer every connection to `on_movable`: those at rest now, the others when they come to rest."""
        self._enter(Mode.HANDING_OVER)
        for connection in tuple(self._connections):
            self.at_rest(connection)

    def close(self) -> None:
        """Close every connection after its next response."""
        self._enter(Mode.CLOSING)

    def close_idle(self, since: float = inf) -> int:
        """Close the connections that have waited for a request since `since` (time.monotonic()). Returns their number.

        During a handover close only those that cannot move. Without `since` close all that have no request in flight,
        also those that have sent a part of a head.
        """
        closed = 0
        for connection in tuple(self._connections):
            if (connection.is_bound or not self.is_handing_over) and connection.close_if_idle(since):
                closed += 1
        return closed

    def give(self, count: int) -> None:
        """Offer `count` connections to `on_movable` when they come to rest, and keep the others. 0 ends this."""
        self._to_give = count
        self._note_whether_under_way()
        for connection in tuple(self._connections):
            if not self._to_give:
                break
            self.at_rest(connection)

    def at_rest(self, connection: _Leaver) -> None:
        """A connection has come to rest. Offer it if it should and can move."""
        may_move = self.is_handing_over or self._to_give > 0
        if may_move and self._on_movable is not None and connection.movable:
            if self._to_give:
                self._to_give -= 1
                self._note_whether_under_way()
            self._on_movable(connection)

    def _enter(self, mode: Mode) -> None:
        self.is_closing = mode is Mode.CLOSING
        self.is_handing_over = mode is Mode.HANDING_OVER
        self._to_give = 0
        self._note_whether_under_way()
        self.departure = _DEPARTURES.get(mode)
        if self.departure is not None:
            for connection in tuple(self._connections):
                connection.depart()

    def _note_whether_under_way(self) -> None:
        self.is_under_way = self.is_handing_over or self._to_give > 0
