"""The metrics page: the cluster's facts, the scoreboard and /proc in Prometheus's formats.

Each scrape renders the page from memory and /proc, without asking a worker. Names follow
https://prometheus.io/docs/practices/naming/. The label `worker` is the slot, so the number of series is bounded.
"""

import platform
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from clusterd.metrics.kernel.procfs import ProcessUsage, process_usage
from clusterd.metrics.page.facts import ClusterFacts, HooksFacts, Phase
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.page.slots import SlotView, slot_families

Usage = Callable[[int], ProcessUsage | None]


def render(
    facts: ClusterFacts,
    ledger: Ledger,
    accept: str = "",
    now: Callable[[], int] = time.monotonic_ns,
    usage: Usage = process_usage,
) -> tuple[str, bytes]:
    """Return the content type and the page, in OpenMetrics if the request's Accept header prefers it."""
    registry = CollectorRegistry()
    registry.register(_Page(facts, ledger, now, usage))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Page(Collector):
    def __init__(self, facts: ClusterFacts, ledger: Ledger, now: Callable[[], int], usage: Usage) -> None:
        self._facts, self._ledger, self._now, self._usage = facts, ledger, now, usage

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Without this method the registry collects everything once more to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families of the page."""
        yield from _cluster_families(self._facts)
        if self._facts.hooks is not None:
            yield from _hooks_families(self._facts.hooks)
        yield from _master_families(self._facts, self._usage(self._facts.pid))
        now = self._now()
        living = {worker.slot for worker in self._facts.workers}
        slots = sorted(living | self._ledger.slots() | set(self._facts.slots))
        yield from slot_families([SlotView(slot, self._facts, self._ledger, self._usage, now) for slot in slots])


def _cluster_families(facts: ClusterFacts) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "clusterd_build",
        "The version of clusterd and of the master's Python.",
        value={"version": facts.version, "python": platform.python_version()},
    )
    yield _gauge("clusterd_generation", "Generation of the application that is being served.", facts.generation)
    yield _gauge("clusterd_workers_wanted", "Number of workers that the cluster should have.", len(facts.slots))
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
