"""Looks at what the workers do, where clusterd decides how many there are, and passes its decisions to the supervisor.

A look reads some numbers of each row and the queues of the listening sockets: some microseconds a worker, and no system
call for one. It asks no worker, so it sees also those that hang.
"""

import time
from collections.abc import Callable, Iterator

from clusterd.master.context import MasterContext
from clusterd.metrics.kernel.backlog import backlogs
from clusterd.metrics.shared.row import BUSY_UNIT
from clusterd.supervisor.decisions.scaling import is_deciding, may_shrink
from clusterd.supervisor.elastic import UNSEEN, Situation, Trend, decide
from clusterd.supervisor.events import CountDecided
from clusterd.supervisor.model.load import Load, WorkerLoad, load_of
from clusterd.supervisor.model.states import WorkerState
from clusterd.systemd.sockets import address_text

LOOK_EVERY_SECONDS = 0.1
WORKERS_OF_A_LOOK = 256
"""Of so many workers more, each look is LOOK_EVERY_SECONDS later, so that thousands cost no more than hundreds."""
LATE_SECONDS = 0.5
"""An event loop that has missed a tick (there are four a second) is busy, whatever it said at the last one."""


class LoadWatch:
    """Keeps what the looks have shown. `undispatched` returns how many connections wait in the master."""

    def __init__(self, context: MasterContext, undispatched: Callable[[], int]) -> None:
        self._loop = context.loop
        self._cluster = context.cluster
        self._children = context.children
        self._scoreboard = context.scoreboard
        self._post_event = context.post_event
        self._sockets = [(address_text(sock), sock) for sock in context.listeners.public]
        self._undispatched = undispatched
        self._trend: Trend = UNSEEN
        self._is_looking = False

    def follow(self) -> None:
        """Begin to look, if clusterd has to decide. Called a few times a second."""
        if not self._is_looking and is_deciding(self._cluster):
            self._is_looking = True
            self._turn()

    def _turn(self) -> None:
        if not is_deciding(self._cluster):
            self._is_looking, self._trend = False, UNSEEN
            return
        # First: a look that fails is not the last one.
        every = LOOK_EVERY_SECONDS * (1 + self._cluster.wanted / WORKERS_OF_A_LOOK)
        self._loop.call_later(every, self._turn)
        self._look(time.monotonic())

    def _look(self, now: float) -> None:
        cluster = self._cluster
        settings = cluster.table.generations[cluster.serving].settings
        situation = Situation(
            least=settings.workers,
            most=settings.most_workers,
            wanted=cluster.wanted,
            shrink_after=settings.shrink_after,
            may_shrink=may_shrink(cluster),
        )
        self._trend, decision = decide(self._trend, self._load(now), situation, now)
        if decision is not None:
            self._post_event(CountDecided(decision.workers, decision.cause, decision.reason))

    def _load(self, now: float) -> Load:
        waiting = sum(each.waiting for each in backlogs(self._sockets).values())
        return load_of(self._workers(now), waiting + self._undispatched())

    def _workers(self, now: float) -> Iterator[WorkerLoad]:
        for worker in self._cluster.table.in_state(WorkerState.READY):
            child = self._children.get(worker.serial)
            if child is not None and child.row is not None:
                row = self._scoreboard.row(child.row)
                is_late = now - row.heartbeat / 1e9 > LATE_SECONDS
                yield WorkerLoad(
                    busy=1.0 if is_late else row.busy / BUSY_UNIT,
                    jobs=row.jobs,
                    threads=row.threads,
                    connections=row.connections,
                    connections_limit=row.connections_limit,
                    is_late=is_late,
                )
