"""Check every worker that serves, a few times a second: what is wrong with it, and whether any answers requests."""

import time
from collections.abc import Callable

from clusterd.log import Level
from clusterd.master.children.child import Child
from clusterd.master.children.in_hand import listed, of_loop
from clusterd.master.context import MasterContext
from clusterd.master.health.monitor import Monitor, Watched
from clusterd.master.health.readiness import Check, Readiness
from clusterd.master.health.stalls import Stalls
from clusterd.supervisor.events import WorkerTurned
from clusterd.supervisor.model.states import WorkerState


class Oversight:
    """Keeps the state between two checks. Calls `changed` when `unready` has changed."""

    def __init__(self, context: MasterContext, clock_time: Callable[[float], str], changed: Callable[[], None]) -> None:
        self._cluster = context.cluster
        self._children = context.children
        self._scoreboard = context.scoreboard
        self._configurations = context.configurations
        self._log = context.log
        self._stacks = context.stacks
        self._processes = context.processes
        self._post_event = context.post_event
        self._clock_time = clock_time
        self._changed = changed
        # A worker that has ended while there was no master stands still too, and its death is heard of next.
        began = time.monotonic()
        self._monitor = Monitor(context.post_event, context.memory.private_bytes, began)
        self._stalls = Stalls(began)
        self._readiness = Readiness()
        self.unready = ""
        """Why no worker answers requests, in words. Empty while one does."""

    def look(self) -> list[Watched]:
        """Check every worker that serves, and return them."""
        watched = self._watched()
        now = time.monotonic()
        self._monitor.look(watched, now)
        for worker, seconds in self._stalls.look(watched, now):
            if child := self._children.get(worker.serial):
                self._report_stall(child, seconds)
        self._look_at_readiness(watched)
        return watched

    def _report_stall(self, child: Child, seconds: float) -> None:
        """Log what the event loop's thread does, and the requests: of this moment, because it may soon turn again."""
        requests = listed(self._processes.in_hand(child), time.monotonic())

        def tell(stacks: str) -> None:
            stack = of_loop(stacks) or "Its stack could not be read."
            what = f"an event loop has not turned for {seconds:.1f} s"
            self._log.warning(f"{what}\n{stack}\n{requests}", **child.fields())

        self._stacks.threads(child, tell)

    def why_unready(self) -> str:
        """Check readiness now, and return `unready`."""
        self._look_at_readiness(self._watched())
        return self.unready

    def checks(self) -> tuple[Check, ...]:
        """What the last check of readiness has found, in its parts."""
        return self._readiness.checks()

    def see_who_turns(self) -> None:
        """Report each draining worker whose event loop has turned since the end of its drain: it knows of the end."""
        for worker in self._cluster.table.in_state(WorkerState.DRAINING):
            child = self._children.get(worker.serial)
            if child is not None and child.row is not None:
                turned_at = self._scoreboard.row(child.row).heartbeat / 1e9
                if worker.turned_at < worker.deadline <= turned_at:
                    self._post_event(WorkerTurned(worker.serial, turned_at))

    def _watched(self) -> list[Watched]:
        watched = []
        for worker in self._cluster.table.in_state(WorkerState.READY):
            child = self._children.get(worker.serial)
            if child is not None and child.pid is not None and child.row is not None:
                config = self._configurations.of(worker.generation)
                row = self._scoreboard.row(child.row)
                each = Watched(
                    serial=worker.serial,
                    slot=worker.slot,
                    pid=child.pid,
                    row=row,
                    is_debugged=worker.is_debugged,
                    timeouts=config.timeouts,
                    limits=config.limits,
                )
                watched.append(each)
        return watched

    def _look_at_readiness(self, watched: list[Watched]) -> None:
        found = self._readiness.look((each.seen() for each in watched), time.monotonic())
        text = "" if found is None else f"not ready since {self._clock_time(found.since)}: {found.why}"
        if text != self.unready:
            self._log.log(Level.WARNING if text else Level.NOTICE, text or "ready again")
            self.unready = text
            self._changed()
