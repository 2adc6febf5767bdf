"""Answers HAProxy's agent-check: a connection gets one line, which says whether and how many requests to send."""

import socket
from collections.abc import Callable, Iterator

from clusterd.log import Logger
from clusterd.master.admin.exchanges import Exchanges, send_and_end
from clusterd.master.context import MasterContext
from clusterd.master.observing.load_watch import LATE_SECONDS
from clusterd.master.rotation.answers import LEAST_WEIGHT, MOST_WEIGHT, approached, line
from clusterd.master.rotation.capacity import Worked, crowding, free_capacity
from clusterd.master.rotation.draining import Draining
from clusterd.master.rotation.usual import Usual
from clusterd.metrics.shared.row import BUSY_UNIT, Row, Totals
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import WorkerState

LOOK_EVERY_SECONDS = 1.0


class Agent:
    """Looks at the workers once a second, and keeps the weight. `not_ready` returns why no worker answers requests."""

    def __init__(
        self, context: MasterContext, draining: Draining, not_ready: Callable[[], str | None], log: Logger
    ) -> None:
        self._context = context
        self._cluster = context.cluster
        self._draining = draining
        self._not_ready = not_ready
        self._exchanges = Exchanges("agent", context.listeners.agent, self._converse, log)
        self._usual, self._generation = Usual(), 0
        """What is usual is so for one generation: another may take longer for what it does."""
        self._crowding = 1.0
        self._weight = LEAST_WEIGHT
        self._looked_at: float | None = None
        self._before: dict[int, Totals] = {}

    @property
    def weight(self) -> float | None:
        """How many requests this host should get, in percent of what its operator has configured; None if none asks."""
        return self._weight if self._context.listeners.agent else None

    @property
    def is_idle(self) -> bool:
        """Whether no balancer waits for an answer."""
        return self._exchanges.is_idle

    def start(self) -> None:
        """Begin to answer, on the running loop."""
        self._exchanges.start()

    async def close(self) -> None:
        """Stop answering."""
        await self._exchanges.close()

    def look(self, now: float) -> None:
        """Go on with the weight, if it is time to. `now` is time.monotonic()."""
        is_first, seconds = self._looked_at is None, now - (self._looked_at or now)
        if not self._context.listeners.agent or (seconds < LOOK_EVERY_SECONDS and not is_first):
            return
        self._looked_at = now
        if self._cluster.serving != self._generation:
            self._usual, self._generation = Usual(), self._cluster.serving
        worked = list(self._worked(now))
        self._crowding = crowding(self._crowding, worked, seconds)
        target = MOST_WEIGHT * free_capacity(worked, self._cluster.wanted) * self._usual.pace(now) * self._crowding
        if self._cluster.rotation is not Rotation.IN:
            self._weight = LEAST_WEIGHT  # From there it climbs when the service comes back, as after a start.
        elif is_first and self._cluster.phase is Phase.RUNNING:  # In place of a master that has died.
            self._weight = max(LEAST_WEIGHT, target)
        else:
            self._weight = approached(self._weight, target, seconds)

    def _worked(self, now: float) -> Iterator[Worked]:
        after: dict[int, Totals] = {}
        for worker in self._cluster.table.in_state(WorkerState.READY):
            child = self._context.children.get(worker.serial)
            if child is None or child.row is None:
                continue
            row = self._context.scoreboard.row(child.row)
            after[worker.serial] = totals = row.totals()
            waited = _stuck_seconds(row, now)
            if (before := self._before.get(worker.serial)) is not None:
                waited = max(waited, self._passed(before, totals, now))
            threads = row.threads_busy / row.threads if row.threads else 0.0
            yield Worked(busy=max(row.busy / BUSY_UNIT, threads), waited=waited)
        self._before = after

    def _passed(self, before: Totals, after: Totals, now: float) -> float:
        """Take in what a worker has done between two looks. Returns how long requests have waited, in seconds."""
        waits, waited = _difference(Row.queue.of(before), Row.queue.of(after))
        lags, lag = _difference(Row.loop_lag.of(before), Row.loop_lag.of(after))
        seconds = sum(after.sums_of(Row.responses)) - sum(before.sums_of(Row.responses))
        if waits and not _has_long(before, after):
            self._usual.add(max(0.0, seconds - waited), waits, now)
        return (waited / waits if waits else 0.0) + (lag / lags if lags else 0.0)

    async def _converse(self, connection: socket.socket) -> None:
        await send_and_end(connection, self.answer().encode())

    def answer(self) -> str:
        """The line for a balancer that asks now."""
        cluster = self._cluster
        return line(
            cluster.rotation,
            stops=cluster.is_stopping,
            is_empty=self._draining.is_empty,
            not_ready=self._not_ready(),
            weight=self._weight,
        )


def _stuck_seconds(row: Row, now: float) -> float:
    """How long a worker has called no application, though requests may wait in it."""
    silent = now - row.heartbeat / 1e9
    stuck = now - row.progress / 1e9 if row.queue_length else 0.0
    return max(silent if silent > LATE_SECONDS else 0.0, stuck)


def _difference(before: tuple[tuple[int, ...], float], after: tuple[tuple[int, ...], float]) -> tuple[int, float]:
    return sum(after[0]) - sum(before[0]), max(0.0, after[1] - before[1])


def _has_long(before: Totals, after: Totals) -> bool:
    """Whether a response has ended that took longer than the last bound: one download would outweigh all others."""
    responses = Row.responses
    longest = slice(len(responses.bounds), None, responses.width)
    return after.cells(responses)[longest] != before.cells(responses)[longest]
