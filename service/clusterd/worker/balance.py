"""Whose turn it is to accept: decided from the loads on the scoreboard."""

from enum import Enum
from typing import Protocol

from clusterd.http.engine import Engine
from clusterd.metrics.scoreboard import Peers, Scoreboard

CONNECTIONS_AHEAD = 2
"""A worker this many connections above the least loaded lets it go first."""


class Turn(Enum):
    """What a worker does with a connection that waits to be accepted."""

    ACCEPT = "accept"
    GIVE_WAY = "give way"
    """Let another worker have it, for a moment."""
    FULL = "full"
    """Leave it to others, until there is room."""


class Gate(Protocol):
    """What the acceptor asks before each connection, on its own thread."""

    def turn(self) -> Turn:
        """Whose turn it is now."""
        ...


class OpenGate:
    """`scheduling: shared`: whoever the kernel wakes accepts, while the worker has room."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def turn(self) -> Turn:
        """Accept up to limits.connections."""
        return Turn.ACCEPT if self._engine.has_room() else Turn.FULL


class LeastConnectionsGate:
    """`scheduling: least_connections`: busier workers give way to less loaded ones."""

    def __init__(self, scoreboard: Scoreboard, row: int, engine: Engine) -> None:
        self._scoreboard = scoreboard
        self._row = row
        self._engine = engine

    def turn(self) -> Turn:
        """Decide by what this worker and the others have open at this moment."""
        if not self._engine.has_room():
            return Turn.FULL
        peers = self._scoreboard.peers(self._row)
        return decide(self._engine.load, self._engine.has_free_thread(), peers)


def decide(connections: int, has_free_thread: bool, peers: Peers | None) -> Turn:
    """Whether a worker with so many `connections` takes the next one; `peers` are the others that accept."""
    if peers is None:
        return Turn.ACCEPT
    if peers.has_free_thread and not has_free_thread:
        return Turn.FULL
    ahead = connections - peers.least_connections
    return Turn.GIVE_WAY if ahead > CONNECTIONS_AHEAD else Turn.ACCEPT
