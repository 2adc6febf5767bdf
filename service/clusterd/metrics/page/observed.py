"""The metric families of what the master observes: queues, memory, pressure, durations and certificates."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from clusterd.metrics.kernel.backlog import Backlog
from clusterd.metrics.kernel.cgroup import CgroupUsage
from clusterd.metrics.page.families import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from clusterd.metrics.page.negotiation import Form
from clusterd.metrics.page.pace import Pace
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class SlotMemory:
    """The memory of all processes of a slot, as it was sampled."""

    pss_bytes: int
    private_bytes: int
    age_seconds: float
    """Since the oldest of the samples."""


@dataclass(frozen=True, slots=True)
class SlotBackoff:
    """How the boots of a slot fail."""

    failures: int
    """In a row. 0 once a worker is ready."""
    retry_seconds: float
    """Until the next worker is forked. 0 if nothing holds that up."""


@dataclass(frozen=True, slots=True)
class Release:
    """What a generation serves."""

    name: str
    """The name of its directory, with symbolic links resolved."""
    digest: str
    """Of its source files; empty if there are too many or they cannot be read."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was observed. Keys that are numbers are slots."""

    backlogs: Mapping[str, Backlog]
    """By address. Sockets with the same address (SO_REUSEPORT) are one queue."""
    memory: Mapping[int, SlotMemory]
    oom_kills: Mapping[int, int]
    backoffs: Mapping[int, SlotBackoff]
    boot_seconds: Mapping[int, float]
    """From the request for the fork of the slot's worker until it was ready."""
    cgroup: CgroupUsage
    rollout_seconds: Mapping[str, float]
    """How long the last rollout took, by result."""
    import_seconds: float | None
    """How long the last template took to import the application."""
    certificates: Mapping[str, float]
    """When each ends, in seconds since 1970, by how the configuration names it."""
    log_records_dropped: int
    release: Release | None
    """Which one serves. None until it is known."""


class ObservedSource:
    """A source of the page (`exposition.Source`)."""

    def __init__(self, observe: Callable[[], Observed]) -> None:
        self._observe = observe

    async def __call__(self, form: Form, _pace: Pace) -> AsyncIterator[str]:
        """Yield the lines of all families that have samples."""
        for family in observed_families(self._observe()):
            if family.lines:
                yield family.header(form) + "".join(family.lines)


class WeightSource:
    """A source of the page: what the agent answers. `weight` returns it in percent, None if there is no agent."""

    def __init__(self, weight: Callable[[], float | None]) -> None:
        self._weight = weight

    async def __call__(self, form: Form, _pace: Pace) -> AsyncIterator[str]:
        """Yield the lines of the family, if it has a sample."""
        family = GaugeMetricFamily(
            "clusterd_agent_weight_percent",
            "How many requests this host should get, as HAProxy's agent-check is told; only if there is an agent.",
            self._weight(),
        )
        if family.lines:
            yield family.header(form) + "".join(family.lines)


def observed_families(observed: Observed) -> Iterator[Metric]:
    """Yield the families, also those without a sample."""
    yield from _release(observed)
    yield from _sockets(observed.backlogs)
    yield from _slots(observed)
    yield from _cgroup(observed.cgroup)
    yield _gauges(
        "clusterd_rollout_duration_seconds", "Duration of the last rollout.", "result", observed.rollout_seconds
    )
    yield GaugeMetricFamily(
        "clusterd_template_import_seconds",
        "How long the last template took to import the application; near 0 if the workers import it themselves.",
        observed.import_seconds,
    )
    yield _gauges(
        "clusterd_tls_certificate_not_after_timestamp_seconds",
        "When the served certificate, or the first of its chain, expires.",
        "certificate",
        observed.certificates,
    )
    yield CounterMetricFamily(
        "clusterd_master_log_records_dropped",
        "Log records that the master dropped because their destination did not accept them.",
        observed.log_records_dropped,
    )


def _release(observed: Observed) -> Iterator[Metric]:
    release = observed.release
    if release is not None:
        yield InfoMetricFamily(
            "clusterd_release",
            "The release that is being served: its directory, and a digest of its source files.",
            value={"release": release.name, "digest": release.digest},
        )


def _sockets(backlogs: Mapping[str, Backlog]) -> Iterator[Metric]:
    yield _gauges(
        "clusterd_listen_backlog",
        "Connections in the kernel's queue of the listening socket, which no process has accepted yet.",
        "socket",
        {address: each.waiting for address, each in backlogs.items()},
    )
    yield _gauges(
        "clusterd_listen_backlog_limit",
        "Length of the queue of the listening socket beyond which the kernel drops or refuses connections.",
        "socket",
        {address: each.limit for address, each in backlogs.items()},
    )


def _slots(observed: Observed) -> Iterator[Metric]:
    memory, backoffs = observed.memory, observed.backoffs
    yield _gauges(
        "clusterd_worker_pss_bytes",
        "Memory, with each shared page divided by the number of processes that share it.",
        "worker",
        {slot: each.pss_bytes for slot, each in memory.items()},
    )
    yield _gauges(
        "clusterd_worker_private_memory_bytes",
        "Memory that becomes free if the slot's processes end.",
        "worker",
        {slot: each.private_bytes for slot, each in memory.items()},
    )
    yield _gauges(
        "clusterd_worker_memory_age_seconds",
        "Time since the shares and the private memory of the slot were measured.",
        "worker",
        {slot: each.age_seconds for slot, each in memory.items()},
    )
    kills = CounterMetricFamily(
        "clusterd_worker_oom_kills", "Workers that the kernel killed, probably for want of memory.", labels=["worker"]
    )
    yield _filled(kills, observed.oom_kills)
    yield _gauges(
        "clusterd_worker_boot_seconds",
        "How long the slot's worker took from the request for its fork until it was ready.",
        "worker",
        observed.boot_seconds,
    )
    yield _gauges(
        "clusterd_worker_backoff_failures",
        "Workers that failed in a row before they were ready.",
        "worker",
        {slot: each.failures for slot, each in backoffs.items()},
    )
    yield _gauges(
        "clusterd_worker_backoff_seconds",
        "Time until the next worker of the slot is forked; 0 if nothing holds that up.",
        "worker",
        {slot: each.retry_seconds for slot, each in backoffs.items()},
    )


def _cgroup(usage: CgroupUsage) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "clusterd_cgroup_cpu_waiting_seconds",
        "Time in which a process of the control group could run and had no CPU.",
        usage.cpu_waiting_seconds,
    )
    yield CounterMetricFamily(
        "clusterd_cgroup_memory_waiting_seconds",
        "Time in which a process of the control group waited for memory.",
        usage.memory_waiting_seconds,
    )
    yield CounterMetricFamily(
        "clusterd_cgroup_memory_stalled_seconds",
        "Time in which all processes of the control group with work waited for memory.",
        usage.memory_stalled_seconds,
    )
    yield GaugeMetricFamily(
        "clusterd_cgroup_memory_bytes", "Memory of the control group, without cached files.", usage.memory_bytes
    )
    yield GaugeMetricFamily(
        "clusterd_cgroup_memory_limit_bytes",
        "The least memory limit of the control group and of those above it.",
        usage.memory_limit_bytes,
    )
    yield CounterMetricFamily(
        "clusterd_cgroup_oom_kills",
        "Processes of the control group that the kernel killed for want of memory.",
        usage.oom_kills,
    )


def _gauges(name: str, documentation: str, label: str, values: Mapping[int, float] | Mapping[str, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, documentation, labels=[label]), values)


def _filled(family: GaugeMetricFamily, values: Mapping[int, float] | Mapping[str, float]) -> Metric:
    for key, value in sorted(values.items()):
        family.add_metric([str(key)], value)
    return family
