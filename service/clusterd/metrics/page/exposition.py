"""The metrics page: the cluster's facts, the scoreboard and /proc in Prometheus's formats.

Each scrape makes the page of memory and /proc. It is made in slices of a few milliseconds, between which the master's
loop does its other work, so that a large page delays no death of a worker. Names follow
https://prometheus.io/docs/practices/naming/. The label `worker` is the slot, so the number of series is bounded.
"""

import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from clusterd.metrics.kernel.procfs import ProcessUsage, process_usage
from clusterd.metrics.page.facts import ClusterFacts, HooksFacts, Phase
from clusterd.metrics.page.families import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.page.lost import lost_family
from clusterd.metrics.page.negotiation import Form, Page, Wanted
from clusterd.metrics.page.pace import Pace
from clusterd.metrics.page.slots import SlotView, slot_families

Usage = Callable[[int], ProcessUsage | None]

Source = Callable[[Form, Pace], AsyncIterator[str]]
"""Yields lines of the page. A family is whole before the next one begins, and is in one source only.

What takes a source more than a few milliseconds it does in parts, and calls `rest_if_due` after each. Where it waits,
for example for an answer, the loop turns anyway.
"""

SLOTS_AT_ONCE = 4
"""Their counts, /proc and lines take a millisecond at most."""

_GZIP = 16 + zlib.MAX_WBITS
_COMPRESSION = 1
"""The fastest. The page becomes a fourteenth of its size; level 6 takes 2.5 times as long for a sixteenth."""


async def render(sources: Sequence[Source], wanted: Wanted) -> Page:
    """Return the page that the sources make, one after the other."""
    pace = Pace()
    compressor = zlib.compressobj(_COMPRESSION, wbits=_GZIP) if wanted.compressed else None
    body = []
    for source in sources:
        async for lines in source(wanted.form, pace):
            data = lines.encode("utf-8", "replace")
            body.append(data if compressor is None else compressor.compress(data))
            await pace.rest_if_due()
    end = wanted.form.end.encode()
    body.append(end if compressor is None else compressor.compress(end) + compressor.flush())
    return Page(wanted.form.value, None if compressor is None else "gzip", b"".join(body))


class ClusterSource:
    """What the master knows of the cluster and of each slot. `facts` returns the state at the moment.

    All that is shown of a slot is read at one moment. So no counter goes back: the counts of a worker are either in
    its row, or in the ledger.
    """

    def __init__(
        self,
        facts: Callable[[], ClusterFacts],
        ledger: Ledger,
        now: Callable[[], int] = time.monotonic_ns,
        usage: Usage = process_usage,
    ) -> None:
        self._facts, self._ledger, self._now, self._usage = facts, ledger, now, usage

    async def __call__(self, form: Form, pace: Pace) -> AsyncIterator[str]:
        """Yield the lines of all families."""
        for family in self._cluster(self._facts()):
            yield family.header(form) + "".join(family.lines)
        for parts in await self._slots(pace):
            yield parts[0].header(form)
            for part in parts:
                yield "".join(part.lines)

    def _cluster(self, facts: ClusterFacts) -> Iterator[Metric]:
        yield from _cluster_families(facts)
        if facts.hooks is not None:
            yield from _hooks_families(facts.hooks)
        yield from _master_families(facts, self._usage(facts.pid))

    async def _slots(self, pace: Pace) -> Iterable[list[Metric]]:
        """The families with a series for each slot, each in parts of a few slots."""
        facts, folds = self._facts(), self._ledger.folds
        slots = sorted({worker.slot for worker in facts.workers} | self._ledger.slots() | set(facts.slots))
        families: dict[str, list[Metric]] = {}
        for start in range(0, len(slots), SLOTS_AT_ONCE):
            if self._ledger.folds != folds:
                # A worker has died since. Its counts are in the ledger, and its row may be another's.
                facts, folds = self._facts(), self._ledger.folds
            now, some = self._now(), slots[start : start + SLOTS_AT_ONCE]
            views = [SlotView(slot, facts, self._ledger, self._usage, now) for slot in some]
            refused = None if start else facts.refused_connections
            for family in (lost_family(facts, some), *slot_families(views, refused)):
                families.setdefault(family.name, []).append(family)
            await pace.rest_if_due()
        return families.values()


def _cluster_families(facts: ClusterFacts) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "clusterd_build",
        "The version of clusterd and of the master's Python.",
        value={"version": facts.version, "python": sys.version.partition(" ")[0]},
    )
    yield _gauge("clusterd_generation", "Generation of the application that is being served.", facts.generation)
    yield _gauge("clusterd_workers_wanted", "Number of workers that the cluster should have.", len(facts.slots))
    yield _gauge("clusterd_workers_min", "Least number of workers that the setting workers allows.", facts.workers_min)
    yield _gauge("clusterd_workers_max", "Greatest number of workers that the setting allows.", facts.workers_max)
    yield _gauge(
        "clusterd_workers_elastic", "Whether clusterd itself decides how many workers there are.", facts.is_elastic
    )
    yield _gauge(
        "clusterd_in_rotation",
        "Whether load balancers are to send requests: 0 while the service is drained or announces its stop.",
        facts.is_in_rotation,
    )
    scalings = CounterMetricFamily(
        "clusterd_scalings", "Changes of the number of workers.", labels=["direction", "reason"]
    )
    for (direction, reason), count in sorted(facts.scalings.items()):
        scalings.add_metric([direction, reason], count)
    yield scalings
    workers = GaugeMetricFamily("clusterd_workers", "Living worker processes by phase.", labels=["phase"])
    for phase in Phase:
        workers.add_metric([phase], sum(worker.phase is phase for worker in facts.workers))
    yield workers
    rollouts = CounterMetricFamily("clusterd_rollouts", "Rolling restarts by result.", labels=["result"])
    for result, count in sorted(facts.rollouts.items()):
        rollouts.add_metric([result], count)
    yield rollouts
    yield _gauge("clusterd_rollout_under_way", "Whether a rolling restart is under way.", facts.rollout_under_way)
    yield _gauge(
        "clusterd_config_last_reload_successful",
        "Whether the last reload succeeded.",
        facts.reload_successful,
    )
    yield _gauge(
        "clusterd_config_last_reload_success_timestamp_seconds",
        "When the last successful reload, or else the start, was complete.",
        facts.reloaded_at,
    )
    yield CounterMetricFamily(
        "clusterd_strays_reaped",
        "Orphaned processes of the application reaped by clusterd.",
        facts.orphans_reaped,
    )
    yield CounterMetricFamily(
        "clusterd_messages_dropped",
        "Messages that were dropped because their sender was not the owner of the channel.",
        facts.messages_dropped,
    )


def _hooks_families(hooks: HooksFacts) -> Iterator[Metric]:
    yield _gauge("clusterd_hooks_up", "Whether a hooks process receives events.", hooks.is_told)
    yield _gauge("clusterd_hooks_waiting", "Events and messages that hooks have not finished handling.", hooks.waiting)
    yield _gauge(
        "clusterd_hooks_busy_seconds", "How long the hooks have handled the current event.", hooks.busy_seconds
    )
    yield CounterMetricFamily("clusterd_hooks_restarts", "Restarts of a hooks process that died.", hooks.restarts)
    dropped = CounterMetricFamily(
        "clusterd_hooks_dropped", "Events and messages that hooks did not handle, by kind.", labels=["kind"]
    )
    for kind, count in (("event", hooks.events_dropped), ("message", hooks.messages_dropped), ("cut", hooks.cut)):
        dropped.add_metric([kind], count)
    yield dropped


def _master_families(facts: ClusterFacts, usage: ProcessUsage | None) -> Iterator[Metric]:
    yield _gauge("clusterd_master_start_time_seconds", "When the master started.", facts.started_at)
    if usage is None:
        return
    yield CounterMetricFamily("clusterd_master_cpu_seconds", "CPU time of the master.", usage.cpu_seconds)
    yield _gauge("clusterd_master_resident_memory_bytes", "Resident memory of the master.", usage.resident_bytes)
    yield _gauge("clusterd_master_open_fds", "Open file descriptors of the master.", usage.open_fds)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value)
