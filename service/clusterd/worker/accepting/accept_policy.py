"""Decides whether this worker accepts the next connection, by the loads of all workers on the scoreboard."""

from enum import Enum
from time import monotonic_ns

from clusterd.config.model import Scheduling
from clusterd.http.engine import Engine
from clusterd.linux.wakeups import Wakeups
from clusterd.metrics.shared.scoreboard import SILENT_NANOSECONDS, Peers, Scoreboard

SHARE_AHEAD = 8
"""A worker may have more connections than the least loaded one by an eighth of that one's number. With a stricter rule
workers would call each other without benefit."""

LOOP_AHEAD = 2
"""It may have two more if the application runs on the event loop. There, waking another worker costs more than a short
connection (a quarter of the throughput, with a new connection for each request), and the master rebalances connections
that stay open. The allowance is 0 with threads, because each connection may soon need a thread and another worker may
have a free one. It is 0 with TLS, because such connections cannot be handed over."""


class Turn(Enum):
    """What a worker does with a connection that waits in the backlog."""

    ACCEPT = "accept"
    GIVE_WAY = "give way"
    """Leave it to another worker for a moment, and take it if that worker does not."""
    FULL = "full"
    """Leave it to other workers until this one has room."""
    SHED = "shed"
    """Accept it and reject it with a 503: no worker has room."""


class AcceptPolicy:
    """The acceptor asks it before each connection, on the loop's thread."""

    def __init__(
        self, scheduling: Scheduling, scoreboard: Scoreboard, wakeups: Wakeups, row: int, engine: Engine
    ) -> None:
        self._scheduling = scheduling
        self._scoreboard = scoreboard
        self._wakeups = wakeups
        self._row = row
        self._own = scoreboard.row(row)
        self._engine = engine
        self._ahead = 0 if engine.runners.count or engine.tls is not None else LOOP_AHEAD
        self._has_looked = False
        self._seen: Peers | None = None

    @property
    def is_entering(self) -> bool:
        """Whether a connection is on its way into the loop, which takes a few turns of it."""
        return self._engine.is_entering

    def leave_to_leader(self) -> bool:
        """Whether a thread that has the loop accepts what has come, in place of the caller."""
        return self._engine.runners.leave_to_leader()

    def look(self) -> None:
        """Forget the loads of the other workers, so that the next decision that needs them reads them again."""
        self._has_looked = False

    def turn(self) -> Turn:
        """Decide by the current load of this worker and the loads of the others as read after the last `look`."""
        engine = self._engine
        has_room = engine.has_room()
        self._own.accepting = int(has_room)  # Other workers must not leave connections to a full worker.
        if not has_room:
            return Turn.SHED if self._peers() is None else Turn.FULL
        load, has_free_thread = engine.load, engine.runners.free > 0
        if not load and has_free_thread:
            return Turn.ACCEPT  # No worker can have less, so the scoreboard need not be read.
        if self._scheduling is Scheduling.SHARED:
            return Turn.ACCEPT
        return decide(load, has_free_thread, self._peers(), self._ahead)

    def call_better(self) -> None:
        """Wake the best other worker, but only if it has less to do than this one, so that no call goes in circles."""
        peers = self._peers()
        if peers is None:
            return
        if peers.has_free_thread > (self._engine.runners.free > 0) or peers.least_connections < self._engine.load:
            self._wakeups.wake(peers.row)

    def call_other(self) -> None:
        """Wake the best other worker, as this one cannot accept. It leaves the others' view until its next try: two
        workers that cannot accept do not wake each other.
        """
        self._own.accepting = 0
        if (peers := self._peers()) is not None:
            self._wakeups.wake(peers.row)

    def _peers(self) -> Peers | None:
        if not self._has_looked:
            self._has_looked = True
            self._seen = self._scoreboard.peers(self._row, monotonic_ns() - SILENT_NANOSECONDS)
        return self._seen


def decide(connections: int, has_free_thread: bool, peers: Peers | None, ahead: int) -> Turn:
    """Decide whether a worker with this number of `connections` accepts the next one.

    `peers` describes the other accepting workers. `ahead` is the number of connections that this worker may have more
    than they, in addition to the share SHARE_AHEAD.
    """
    if peers is None:
        return Turn.ACCEPT
    if peers.has_free_thread != has_free_thread:
        return Turn.ACCEPT if has_free_thread else Turn.FULL
    most = peers.least_connections + peers.least_connections // SHARE_AHEAD + ahead
    return Turn.GIVE_WAY if connections > most else Turn.ACCEPT
