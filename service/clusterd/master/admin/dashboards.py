"""Make dashboards for the page of the metrics endpoint and for `clusterctl top`, and keep the history for them."""

import os
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from clusterd.dashboard import words
from clusterd.dashboard.history import SAMPLE_SECONDS, Activity, History
from clusterd.dashboard.model import (
    About,
    Bar,
    Dashboard,
    EventLine,
    Process,
    RolloutProgress,
    Slot,
    Step,
    Totals,
    Waiting,
    plain,
)
from clusterd.dashboard.page.document import POLICY, render
from clusterd.master.admin.counts import Counts
from clusterd.master.admin.event_log import Event, EventLog
from clusterd.master.admin.readings import Living, Look, look
from clusterd.master.admin.views import Views
from clusterd.master.context import MasterContext
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.row import DURATIONS
from clusterd.service_name import INSTANCE
from clusterd.supervisor.model.states import FAILURES, WorkerState
from clusterd.supervisor.model.table import RolloutPhase
from clusterd.supervisor.status import WaitingSlot, replaced_slots, waiting_slots
from clusterd.version import __version__

EVENTS = 20
PAGE_SECONDS = 1.0
"""A page is rendered at most this often, however many browsers show it."""


class Dashboards:
    """Reads the numbers when a dashboard is asked for, and every few seconds for the history. It asks no worker."""

    def __init__(
        self, context: MasterContext, ledger: Ledger, counts: Counts, event_log: EventLog, views: Views
    ) -> None:
        self._context = context
        self._ledger = ledger
        self._counts = counts
        self._event_log = event_log
        self._views = views
        self._host = socket.gethostname()
        self._started_at = time.monotonic()
        self._history = History(DURATIONS)
        self._next_sample = self._started_at
        self._page = b""
        self._page_until = 0.0

    def look(self, now: float) -> None:
        """Add to the history what has happened since the last time, if enough of it is over."""
        if now < self._next_sample:
            return
        # The interval does not drift, and begins anew after a time in which the master did not run.
        is_on_time = now < self._next_sample + SAMPLE_SECONDS
        self._next_sample = SAMPLE_SECONDS + (self._next_sample if is_on_time else now)
        self._history.add(look(self._context, self._ledger).reading, self._context.cluster.slots())

    def page(self) -> tuple[bytes, str]:
        """Return the page for browsers and its Content-Security-Policy."""
        now = time.monotonic()
        if now >= self._page_until:
            self._page, self._page_until = render(self.make()), now + PAGE_SECONDS
        return self._page, POLICY

    def status(self) -> dict[str, Any]:
        """Return the state of the service and its workers as JSON, as `clusterctl status` shows it."""
        return self._views.describe()

    def document(self) -> dict[str, Any]:
        """Return the dashboard as JSON."""
        document: dict[str, Any] = plain(self.make())
        return document

    def make(self) -> Dashboard:
        """Read everything now."""
        looked = look(self._context, self._ledger)
        of_slots, together = self._history.activity(looked.reading)
        return Dashboard(
            about=self._about(),
            totals=self._totals(looked, together),
            bars=self._bars(looked),
            rollout=self._rollout(),
            slots=self._slots(looked, of_slots),
            events=tuple(map(event_line, reversed(self._event_log.events[-EVENTS:]))),
            points=self._history.points,
        )

    def _about(self) -> About:
        hooks = self._views.hooks()
        return About(
            instance=INSTANCE,
            host=self._host,
            version=__version__,
            pid=os.getpid(),
            at=round(time.time(), 3),
            uptime=round(time.monotonic() - self._started_at, 1),
            not_ready=self._views.not_ready(),
            status=self._views.status(),
            hooks=None if hooks is None else words.hooks(hooks),
        )

    def _totals(self, looked: Look, together: Activity) -> Totals:
        cluster = self._context.cluster
        return Totals(
            ready=len(cluster.table.in_state(WorkerState.READY)),
            wanted=cluster.wanted,
            restarts=self._counts.all_restarts(),
            in_flight=looked.reading.in_flight,
            queue=looked.reading.queue,
            connections=sum(each.row.connections for each in looked.living if each.row is not None),
            memory=looked.reading.memory,
            activity=together,
        )

    def _bars(self, looked: Look) -> tuple[Bar, ...]:
        """How much of the limits of the serving workers is used. A limit that does not apply has no bar."""
        serving = (each.row for each in looked.living if each.worker.state is WorkerState.READY)
        rows = [row for row in serving if row is not None]
        bars = (
            Bar("threads", sum(row.threads_busy for row in rows), sum(row.threads for row in rows)),
            Bar("queue", sum(row.queue_length for row in rows), sum(row.queue_limit for row in rows)),
            Bar("connections", sum(row.connections for row in rows), sum(row.connections_limit for row in rows)),
        )
        return tuple(bar for bar in (*bars, *self._memory_bar(looked)) if bar.limit)

    def _memory_bar(self, looked: Look) -> tuple[Bar, ...]:
        """The worker that is nearest to limits.max_memory, which is one for each worker."""
        of, memory = self._context.configurations.of, self._context.memory
        bars = [
            Bar(f"memory of worker {each.worker.slot}", private, limit, "bytes")
            for each in looked.living
            if each.worker.pid is not None
            and (limit := of(each.worker.generation).limits.max_memory)
            and (private := memory.private_bytes(each.worker.pid)) is not None
        ]
        return (max(bars, key=lambda bar: bar.share),) if bars else ()

    def _rollout(self) -> RolloutProgress | None:
        cluster, rollout = self._context.cluster, self._context.cluster.rollout
        if rollout is None:
            return None
        replacing = rollout.phase is RolloutPhase.REPLACING
        steps = tuple(Step(slot, state) for slot, state in replaced_slots(cluster, rollout)) if replacing else ()
        return RolloutProgress(rollout.generation, rollout.phase.value, steps)

    def _slots(self, looked: Look, activities: dict[int, Activity]) -> tuple[Slot, ...]:
        """Every slot that should have a worker, and those that still have one."""
        by_slot: defaultdict[int, list[Living]] = defaultdict(list)
        for each in looked.living:
            by_slot[each.worker.slot].append(each)
        waiting = {each.slot: each for each in waiting_slots(self._context.cluster)}
        numbers = sorted(by_slot.keys() | set(self._context.cluster.slots()))
        return tuple(
            self._slot(number, by_slot.get(number, ()), waiting.get(number), activities.get(number, Activity()))
            for number in numbers
        )

    def _slot(self, number: int, living: Sequence[Living], waiting: WaitingSlot | None, activity: Activity) -> Slot:
        now = time.monotonic()
        # The one that serves, or else the newest. A slot that waits has none, only predecessors.
        ranked = sorted(living, key=_importance, reverse=True)
        first = ranked.pop(0) if ranked and waiting is None else None
        return Slot(
            number=number,
            state=first.worker.state.value if first else "backoff" if waiting else "empty",
            generation=first.worker.generation if first else self._context.cluster.goal(number),
            queue=sum(each.row.queue_length for each in living if each.row is not None),
            restarts=self._counts.restarts_of(number),
            activity=activity,
            rates=self._history.rates(number),
            worker=None if first is None else _process(first, now),
            others=tuple(_process(each, now) for each in ranked),
            waiting=None
            if waiting is None
            else Waiting(waiting.reason, waiting.failures, round(max(0.0, waiting.retry_at - now), 1)),
        )


def _importance(living: Living) -> tuple[bool, int, int]:
    worker = living.worker
    return worker.state is WorkerState.READY, worker.generation, worker.serial


def _process(living: Living, now: float) -> Process:
    worker, row = living.worker, living.row
    return Process(
        generation=worker.generation,
        state=worker.state.value,
        pid=worker.pid,
        age=round(now - worker.since, 1),
        in_flight=0 if row is None else row.in_flight,
        connections=0 if row is None else row.connections,
        memory=living.memory,
    )


def event_line(event: Event) -> EventLine:
    """Return an event in words. The data of messages is left out: only the control socket is private enough for it."""
    failed = event.get("reason") in FAILURES or event.get("failure") is not None or event["event"] == "suspect"
    shown = {key: value for key, value in event.items() if key != "data"}
    return EventLine(event["time"], event["event"], words.event(shown), failed)
