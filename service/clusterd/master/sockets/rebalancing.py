"""Even out kept-alive connections between workers. Without this, a new worker has none until new clients connect.

New connections go to the worker with the fewest in any case. This module moves the connections that stay open.
"""

from collections.abc import Mapping, Sequence
from time import monotonic

from clusterd.config.model import Scheduling
from clusterd.master.context import MasterContext
from clusterd.master.health.monitor import Watched
from clusterd.master.sockets.dispatch_channel import is_silent
from clusterd.records import dataclass
from clusterd.supervisor.model.cluster import Phase

MOST_AHEAD = 1.25
"""The most loaded worker may have this many times the connections of the least loaded, plus one."""
PAUSE_SECONDS = 0.75
"""The time between two moves. It is longer than a move may take (`SHARE_SECONDS`), so that connections have arrived
before they are counted again. It allows a second move within the two seconds that are promised."""


@dataclass(frozen=True, slots=True)
class Move:
    """The move of a number of connections from one worker to another. Workers are named by their serials."""

    giver: int
    taker: int
    connections: int


class Rebalancing:
    """Decides which connections move, from the number of connections of every worker that serves."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def moves(self, connections: Mapping[int, int], now: float) -> list[Move]:
        """The moves to make now: none while all workers have about as many. `connections` is by serial."""
        if len(connections) < 2 or now < self._not_before:
            return []
        if max(connections.values()) <= min(connections.values()) * MOST_AHEAD + 1:
            return []
        self._not_before = now + PAUSE_SECONDS
        return plan(connections)


class Rebalancer:
    """Has workers hand over connections to others, as `Rebalancing` decides."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._rebalancing = Rebalancing()

    def look(self, watched: Sequence[Watched]) -> None:
        """Begin the moves that are due. Called a few times a second.

        Nothing moves during a rollout, which hands over every connection anyway.
        """
        cluster = self._context.cluster
        if cluster.phase is not Phase.RUNNING or cluster.rollout is not None:
            return
        if self._context.configurations.of(cluster.serving).scheduling is not Scheduling.LEAST_CONNECTIONS:
            return
        now = monotonic()
        # A worker whose event loop stands still, for example at a breakpoint, would hold up the connections.
        takers = (each for each in watched if each.row.accepting and not is_silent(each.row, now))
        for move in self._rebalancing.moves({each.serial: max(0, each.row.connections) for each in takers}, now):
            try:
                self._context.processes.share(move.giver, move.taker, move.connections)
            except OSError:
                return  # Descriptors have run out. Rebalancing is optional, so nothing is logged.


def plan(connections: Mapping[int, int]) -> list[Move]:
    """The moves after which no two workers differ by more than one. A worker gives or takes, never both."""
    share, over = divmod(sum(connections.values()), len(connections))
    # The most loaded workers keep the remainder, so that fewer connections move.
    by_load = sorted(connections, key=lambda serial: (-connections[serial], serial))
    surplus = {serial: connections[serial] - share - (place < over) for place, serial in enumerate(by_load)}
    takers = [serial for serial in by_load if surplus[serial] < 0]
    moves = []
    for giver in (serial for serial in by_load if surplus[serial] > 0):
        while surplus[giver] > 0:
            taker = takers[-1]
            count = min(surplus[giver], -surplus[taker])
            moves.append(Move(giver, taker, count))
            surplus[giver] -= count
            surplus[taker] += count
            if not surplus[taker]:
                takers.pop()
    return moves
