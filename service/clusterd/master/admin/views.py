"""The state of the service for metrics, probes, the overview page, `clusterctl status` and SIGUSR1."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from clusterd.master.admin.counts import Counts
from clusterd.master.admin.endpoint import Pages
from clusterd.master.children.child import Child
from clusterd.master.context import MasterContext
from clusterd.master.health.oversight import Oversight
from clusterd.master.health.readiness import Check
from clusterd.master.hooks.manager import Hooks
from clusterd.metrics.kernel.procfs import ProcessUsage, process_usage
from clusterd.metrics.page.exposition import ClusterSource, Source, render
from clusterd.metrics.page.facts import ClusterFacts, Phase, WorkerFacts
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.page.negotiation import Page, Wanted
from clusterd.service_name import INSTANCE
from clusterd.supervisor.decisions.scaling import is_deciding
from clusterd.supervisor.model.held import Cause
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import ASKED_FOR, COUNTED, WorkerState
from clusterd.supervisor.model.table import Worker
from clusterd.supervisor.status import WaitingSlot, waiting_slots
from clusterd.version import __version__

_PHASES = {
    WorkerState.BOOTING: Phase.BOOTING,
    WorkerState.READY: Phase.READY,
    WorkerState.RETIRED: Phase.DRAINING,
    WorkerState.DRAINING: Phase.DRAINING,
    WorkerState.ENDING: Phase.DRAINING,
}
_OF_PROCESSES = ("pid", "age", "cpu_seconds", "memory", "debugger")
"""What a slot without a worker has none of."""


class Views:
    """Reads the supervisor's table, the scoreboard and the counts. It asks no worker."""

    def __init__(
        self,
        context: MasterContext,
        ledger: Ledger,
        counts: Counts,
        hooks: Hooks,
        status: Callable[[], str],
        oversight: Oversight,
    ) -> None:
        self._cluster = context.cluster
        self._children = context.children
        self._keeper = context.keeper
        self._processes = context.processes
        self._scoreboard = context.scoreboard
        self._ledger = ledger
        self._counts = counts
        self._hooks = hooks
        self._status = status
        self._oversight = oversight
        self._started_at = time.time()

    def pages(self, sources: Sequence[Source], overview: Callable[[], tuple[bytes, str]]) -> Pages:
        """The pages of the metrics endpoint. `sources` add to the metrics."""
        return Pages(
            metrics=partial(self._metrics, (ClusterSource(self._facts, self._ledger, usage=self._usage), *sources)),
            not_ready=self.not_ready,
            checks=self.checks,
            overview=overview,
        )

    async def _metrics(self, sources: Sequence[Source], wanted: Wanted) -> Page:
        """Return the page when the state is written: what was shown outlives this master, so no counter goes back."""
        page = await render(sources, wanted)
        self._keeper.write()
        return page

    def _usage(self, pid: int) -> ProcessUsage | None:
        """Return the usage of a process, and note what is shown. With the master's counts that of the dead masters."""
        usage = process_usage(pid)
        if usage is not None and pid == os.getpid():
            return replace(usage, cpu_seconds=self._counts.masters_cpu(usage.cpu_seconds))
        child = self._children.by_pid(pid)
        if child is None:
            return usage
        if usage is None:  # It has ended, and its parent, which is not this process, has reaped it.
            return ProcessUsage(child.cpu_seconds, 0, 0)
        child.cpu_seconds = usage.cpu_seconds
        return usage

    def status(self) -> str:
        """The state of the service in one line."""
        return self._status()

    def hooks(self) -> dict[str, Any] | None:
        """The state of the hooks. None if none are configured."""
        facts = self._hooks.facts()
        return None if facts is None else asdict(facts)

    def not_ready(self) -> str | None:
        """Why requests are not answered, or soon will not be. None if the service is ready."""
        why = self._oversight.why_unready()
        failed = next((check for check in self._own_checks() if not check.passed), None)
        return (failed.found if failed is not None else why) or None

    def checks(self) -> tuple[Check, ...]:
        """Every condition for being ready, and what was found just now."""
        self._oversight.why_unready()
        return (*self._own_checks(), *self._oversight.checks())

    def _own_checks(self) -> tuple[Check, ...]:
        cluster = self._cluster
        stops = cluster.is_stopping
        ready, wanted = len(cluster.table.in_state(WorkerState.READY)), cluster.wanted
        return (
            Check("service", not stops, "stopping" if stops else cluster.phase.value),
            Check("rotation", cluster.rotation is Rotation.IN, cluster.rotation.value),
            Check("workers", ready > 0, f"{ready} of {wanted} are ready" if ready else "no worker is ready"),
        )

    def describe(self) -> dict[str, Any]:
        """The state for programs, as `clusterctl status --json` prints it. Memory is in bytes, ages are in seconds."""
        return {
            "instance": INSTANCE,
            "status": self._status(),
            "version": __version__,
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "generation": self._cluster.serving,
            "rotation": self._cluster.rotation.name.lower(),
            "workers": self._workers(),
            "hooks": self.hooks(),
        }

    def state_lines(self) -> Iterator[str]:
        """The state for people: the status, then one line for each worker, then one for the hooks."""
        yield self._status()
        described = self.describe()
        for worker in described["workers"]:
            yield " ".join(f"{key}={value}" for key, value in worker.items())
        if described["hooks"] is not None:
            yield "hooks " + " ".join(f"{key}={value}" for key, value in described["hooks"].items())

    def _workers(self) -> list[dict[str, Any]]:
        """Each worker, and each slot that has none because its workers keep failing."""
        living = [self._describe(worker, child) for worker, child in self._living()]
        waiting = [self._describe_waiting(slot) for slot in waiting_slots(self._cluster)]
        return sorted(living + waiting, key=lambda each: (each["slot"], each["generation"]))

    def _describe_waiting(self, waiting: WaitingSlot) -> dict[str, Any]:
        return {
            **dict.fromkeys(_OF_PROCESSES),
            "slot": waiting.slot,
            "generation": waiting.generation,
            "state": "backoff",
            "restarts": self._counts.restarts_of(waiting.slot),
            "requests": 0,
            "connections": 0,
            "in_flight": 0,
            "accepting": False,
            "failures": waiting.failures,
            "reason": waiting.reason,
            "retry_in": round(max(0.0, waiting.retry_at - time.monotonic()), 1),
        }

    def _living(self) -> Iterator[tuple[Worker, Child]]:
        workers = self._cluster.table.workers.values()
        for worker in sorted(workers, key=lambda each: (each.slot, each.generation, each.serial)):
            child = self._children.get(worker.serial)
            if child is not None:
                yield worker, child

    def _describe(self, worker: Worker, child: Child) -> dict[str, Any]:
        requests = connections = in_flight = accepting = 0
        if child.row is not None:
            row = self._scoreboard.row(child.row)
            requests, connections, in_flight = row.requests, row.connections, row.in_flight
            accepting = row.accepting
        usage = None if worker.pid is None else process_usage(worker.pid)
        return {
            "slot": worker.slot,
            "generation": worker.generation,
            "pid": worker.pid,
            "state": worker.state.value,
            "age": round(time.monotonic() - worker.since, 1),
            "restarts": self._counts.restarts_of(worker.slot),
            "requests": requests,
            "connections": connections,
            "in_flight": in_flight,
            "accepting": bool(accepting),
            "cpu_seconds": None if usage is None else usage.cpu_seconds,
            "memory": None if usage is None else usage.resident_bytes,
            "debugger": None if child.debugger is None else str(child.debugger),
        }

    def _facts(self) -> ClusterFacts:
        cluster, counts = self._cluster, self._counts
        generation = cluster.table.generations.get(cluster.serving)
        return ClusterFacts(
            version=__version__,
            pid=os.getpid(),
            started_at=self._started_at,
            generation=cluster.serving,
            slots=tuple(cluster.slots()),
            workers=tuple(
                WorkerFacts(
                    worker.slot,
                    worker.generation,
                    child.pid,
                    _PHASES[worker.state],
                    self._scoreboard.row(child.row),
                )
                for worker, child in self._living()
                if child.pid is not None and child.row is not None and worker.state in _PHASES
            ),
            workers_min=0 if generation is None else generation.settings.workers,
            workers_max=0 if generation is None else generation.settings.within(sys.maxsize),
            is_elastic=is_deciding(cluster),
            is_in_rotation=cluster.rotation is Rotation.IN,
            scalings=counts.scalings,
            restarts=counts.restarts,
            restart_reasons={reason.value: reason in ASKED_FOR for reason in COUNTED},
            lost=counts.lost,
            loss_reasons=tuple(sorted(cause.value for cause in Cause)),
            rollouts=counts.rollouts,
            rollout_under_way=cluster.rollout is not None,
            reload_successful=counts.last_reload_succeeded,
            reloaded_at=counts.last_success_at,
            orphans_reaped=self._children.orphans_reaped,
            messages_dropped=self._children.messages_dropped,
            refused_connections=self._processes.refused_connections,
            hooks=self._hooks.facts(),
        )
