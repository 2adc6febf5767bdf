"""Kept-alive connections are evened out: a new worker would otherwise wait for new clients while others have them all.

New connections go to the worker with the fewest anyway; this is for those that stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from clusterd.config.model import Scheduling
from clusterd.master.context import MasterContext
from clusterd.master.health.monitor import Watched
from clusterd.master.sockets.dispatch_channel import is_silent
from clusterd.supervisor.model.cluster import Phase

MOST_AHEAD = 1.25
"""The most loaded worker may have so many times the connections of the least loaded, and one more."""
PAUSE_SECONDS = 0.75
"""Between two moves: longer than one may take (`SHARE_SECONDS`), so that what is on its way has arrived before it is
counted again; and short enough for a second move within the two seconds that are promised."""


@dataclass(frozen=True, slots=True)
class Move:
    """So many connections from one worker to another, by their serials."""

    giver: int
    taker: int
    connections: int


class Rebalancing:
    """Decides what is to move, from the connections of every worker that serves."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def moves(self, connections: Mapping[int, int], now: float) -> list[Move]:
        """What to move now: nothing while all have about as many. `connections` is by serial."""
        if len(connections) < 2 or now < self._not_before:
            return []
        if max(connections.values()) <= min(connections.values()) * MOST_AHEAD + 1:
            return []
        self._not_before = now + PAUSE_SECONDS
        return plan(connections)


class Rebalancer:
    """Has workers hand connections over to others, as `Rebalancing` decides."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context
        self._rebalancing = Rebalancing()

    def look(self, watched: Sequence[Watched]) -> None:
        """To be called a few times a second. Not during a rollout: the connections are on the move already."""
        cluster = self._context.cluster
        if cluster.phase is not Phase.RUNNING or cluster.rollout is not None:
            return
        if self._context.configurations.of(cluster.serving).scheduling is not Scheduling.LEAST_CONNECTIONS:
            return
        now = monotonic()
        # One whose loop stands still, at a breakpoint for example, would only hold up what is meant for it.
        takers = (each for each in watched if each.row.accepting and not is_silent(each.row, now))
        for move in self._rebalancing.moves({each.serial: each.row.connections for each in takers}, now):
            try:
                self._context.processes.share(move.giver, move.taker, move.connections)
            except OSError:
                return  # out of descriptors: it is no more than a nicety


def plan(connections: Mapping[int, int]) -> list[Move]:
    """The moves after which no two workers differ by more than one; each gives or takes, never both."""
    share, over = divmod(sum(connections.values()), len(connections))
    # Those that have the most keep the odd ones: fewer have to move.
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
