"""Whose turn it is to accept: decided from the loads on the scoreboard."""

from enum import Enum
from time import monotonic_ns

from clusterd.config.model import Scheduling
from clusterd.http.engine import Engine
from clusterd.linux.wakeups import Wakeups
from clusterd.metrics.scoreboard import SILENT_NANOSECONDS, Peers, Scoreboard

SHARE_AHEAD = 8
"""A worker may be ahead of the least loaded by an eighth of what that one has: to count more exactly would have
workers pass connections to each other for nothing."""

LOOP_AHEAD = 2
"""And by two more where the application runs on the loop: a call to another worker costs more than a short connection
(a quarter of the throughput with a new one for each request), and those that stay are evened out by the master. With
threads each connection may be about to need one, and another worker may have it free; those with TLS stay where they
are."""


class Turn(Enum):
    """What a worker does with a connection that waits to be accepted."""

    ACCEPT = "accept"
    GIVE_WAY = "give way"
    """Let another worker have it, for a moment."""
    FULL = "full"
    """Leave it to others, until there is room."""
    SHED = "shed"
    """Take it and send it away: nobody has room."""


class AcceptPolicy:
    """What the acceptor asks before each connection, on the loop."""

    def __init__(
        self, scheduling: Scheduling, scoreboard: Scoreboard, wakeups: Wakeups, row: int, engine: Engine
    ) -> None:
        self._scheduling = scheduling
        self._scoreboard = scoreboard
        self._wakeups = wakeups
        self._row = row
        self._own = scoreboard.row(row)
        self._engine = engine
        self._ahead = 0 if engine.threads.count or engine.tls is not None else LOOP_AHEAD
        self._has_looked = False
        self._seen: Peers | None = None

    def look(self) -> None:
        """What the others have may have changed: look again, when it is next of interest."""
        self._has_looked = False

    def turn(self) -> Turn:
        """Decide by what this worker has at this moment, and what the others had at the last look."""
        engine = self._engine
        has_room = engine.has_room()
        self._own.accepting = int(has_room)  # others must not leave anything to a full worker
        if not has_room:
            return Turn.SHED if self._peers() is None else Turn.FULL
        load, has_free_thread = engine.load, engine.threads.free > 0
        if not load and has_free_thread:
            return Turn.ACCEPT  # nobody has less, so nobody need be looked at
        if self._scheduling is Scheduling.SHARED:
            return Turn.ACCEPT
        return decide(load, has_free_thread, self._peers(), self._ahead)

    def call_better(self) -> None:
        """Wake the worker whose turn it is. Only one with less to do than this, so that no call goes in circles."""
        peers = self._peers()
        if peers is None:
            return
        if peers.has_free_thread > (self._engine.threads.free > 0) or peers.least_connections < self._engine.load:
            self._wakeups.ring(peers.row)

    def _peers(self) -> Peers | None:
        if not self._has_looked:
            self._has_looked = True
            self._seen = self._scoreboard.peers(self._row, monotonic_ns() - SILENT_NANOSECONDS)
        return self._seen


def decide(connections: int, has_free_thread: bool, peers: Peers | None, ahead: int) -> Turn:
    """Whether a worker with so many `connections` takes the next one; `peers` are the others that accept.

    `ahead` is by how many connections it may be ahead of them anyway.
    """
    if peers is None:
        return Turn.ACCEPT
    if peers.has_free_thread != has_free_thread:
        return Turn.ACCEPT if has_free_thread else Turn.FULL
    most = peers.least_connections + peers.least_connections // SHARE_AHEAD + ahead
    return Turn.GIVE_WAY if connections > most else Turn.ACCEPT
