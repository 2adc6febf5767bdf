"""What becomes of connections: they are kept, move to another process as they come to rest, or are closed."""

from collections.abc import Callable, Collection
from enum import Enum, auto
from math import inf
from typing import Any, Protocol, cast

from clusterd.http.connections.tunnel import Departure


class Mode(Enum):
    """What happens to a connection after its response."""

    SERVING = auto()
    """It is kept."""
    HANDING_OVER = auto()
    """It is kept, and offered to another process as soon as it is between requests."""
    CLOSING = auto()
    """It is closed."""


_DEPARTURES = {Mode.HANDING_OVER: Departure.RESTART, Mode.CLOSING: Departure.STOP}


class _Leaver(Protocol):
    """A connection, as far as its retirement is concerned."""

    @property
    def movable(self) -> bool: ...

    @property
    def is_bound(self) -> bool: ...

    def depart(self) -> None: ...

    def close_if_idle(self, since: float) -> None: ...


class Retirement:
    """Of a whole engine, or of some of its connections. `on_movable` takes those that are to move."""

    def __init__(self, connections: Collection[object], on_movable: Callable[[Any], None] | None) -> None:
        self._connections = cast(Collection[_Leaver], connections)
        self._on_movable = on_movable
        self._to_give = 0
        # Plain attributes, because every request asks for them.
        self.is_closing = False
        """Whether responses say `Connection: close`."""
        self.is_handing_over = False
        """Whether connections move as they come to rest."""
        self.is_under_way = False
        """Whether something is to be done with a connection that comes to rest."""
        self.departure: Departure | None = None
        """Why the server leaves its clients, when it does: what cannot move to another process ends with it."""

    def take_back(self) -> None:
        """Keep connections, as in the beginning."""
        self._enter(Mode.SERVING)

    def hand_over(self) -> None:
        """Offer every connection to `on_movable`: those at rest now, the others as they come to rest."""
        self._enter(Mode.HANDING_OVER)
        for connection in tuple(self._connections):
            self.at_rest(connection)

    def close(self) -> None:
        """Let every response be its connection's last."""
        self._enter(Mode.CLOSING)

    def close_idle(self, since: float = inf) -> None:
        """Close the connections that have waited for a request since then; where they are handed over, those that can
        not move. Without a time all that are not in flight, also those that have sent a part of a head.
        """
        for connection in tuple(self._connections):
            if connection.is_bound or not self.is_handing_over:
                connection.close_if_idle(since)

    def give(self, count: int) -> None:
        """Offer so many connections to `on_movable`, as they come to rest, and keep the others; 0 ends that."""
        self._to_give = count
        self._note_whether_under_way()
        for connection in tuple(self._connections):
            if not self._to_give:
                break
            self.at_rest(connection)

    def at_rest(self, connection: _Leaver) -> None:
        """A connection may be able to move."""
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
