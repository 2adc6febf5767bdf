"""What the master has observed: kept between the events, sampled a few times a second, read at each scrape."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import field

from clusterd.master.admin.counts import FAILED, SUCCEEDED
from clusterd.master.children.child import Child
from clusterd.master.context import MasterContext
from clusterd.master.observing.certificates import CertificateWatch
from clusterd.master.observing.memory import LIMITED_SAMPLE_SECONDS, SAMPLE_SECONDS
from clusterd.master.observing.releases import Releases
from clusterd.metrics.kernel.backlog import backlogs
from clusterd.metrics.kernel.cgroup import Cgroup
from clusterd.metrics.page.observed import Observed, Release, SlotBackoff
from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.status import waiting_slots
from clusterd.systemd.sockets import address_text


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a program of the master."""

    oom_kills: dict[int, int] = field(default_factory=dict)
    """By slot."""
    certificate_ends: dict[int, float] = field(default_factory=dict)
    """By generation, in seconds since 1970."""
    import_seconds: float | None = None
    rollout_seconds: dict[str, float] = field(default_factory=dict)
    """How long the last rollout took, by result."""
    releases: dict[int, Release] = field(default_factory=dict)
    """By generation."""


class Observations:
    """Follows the events and actions of the supervisor. `clock` returns seconds since 1970."""

    def __init__(self, context: MasterContext, clock: Callable[[], float] = time.time) -> None:
        self._cluster = context.cluster
        self._children = context.children
        self._configurations = context.configurations
        self._log = context.log
        self._clock = clock
        self._sockets = [(address_text(sock), sock) for sock in context.listeners.public]
        self._cgroup = Cgroup.own()
        self._memory = context.memory
        self._certificates = CertificateWatch()
        self._certificate_ends: dict[int, float] = {}
        """When the certificate of each generation ends, in seconds since 1970. Only those that have one."""
        self._oom_kills: Counter[int] = Counter()
        self._import_seconds: float | None = None
        self._rollouts: dict[int, float] = {}
        """When the rollouts under way began, by number."""
        self._rollout_seconds: dict[str, float] = {}
        self._releases = Releases(context.loop)

    # ---- from one program of the master to the next

    def kept(self) -> Kept:
        """What another program of the master goes on with."""
        return Kept(
            dict(self._oom_kills),
            dict(self._certificate_ends),
            self._import_seconds,
            dict(self._rollout_seconds),
            dict(self._releases.known),
        )

    def resume(self, kept: Kept) -> None:
        """Go on with what an earlier program of the master has kept."""
        self._oom_kills.update(kept.oom_kills)
        self._certificate_ends.update(kept.certificate_ends)
        self._import_seconds = kept.import_seconds
        self._rollout_seconds.update(kept.rollout_seconds)
        self._releases.known.update(kept.releases)

    # ---- what happens

    def note_event(self, event: events.Event) -> None:
        """Note an event, before the supervisor processes it."""
        if isinstance(event, events.WorkerGone) and event.for_memory:
            worker = self._cluster.table.workers.get(event.serial)
            if worker is not None:
                self._oom_kills[worker.slot] += 1

    def note_action(self, action: actions.Action) -> None:
        """Note an action of the supervisor."""
        match action:
            case actions.StartTemplate(_, generation):
                directory = self._configurations.of(generation).directory
                self._releases.learn(generation, directory, self._cluster.table.generations.__contains__)
            case actions.RolloutStarted(number):
                self._rollouts[number] = time.monotonic()
            case actions.RolloutEnded(number, _, failure) if number in self._rollouts:
                result = SUCCEEDED if failure is None else FAILED
                self._rollout_seconds[result] = time.monotonic() - self._rollouts.pop(number)

    def template_begun(self, generation: int, certificate_ends_at: float) -> None:
        """Note that a template has read its certificate. `certificate_ends_at` is 0 if there is none."""
        ends = {**self._certificate_ends, generation: certificate_ends_at}
        known = {*self._cluster.table.generations, generation}
        self._certificate_ends = {each: at for each, at in ends.items() if at and each in known}

    def template_loaded(self, seconds: float) -> None:
        """Note how long a template took to import the application."""
        self._import_seconds = seconds

    def look(self, now: float) -> None:
        """Look once, at `now` (time.monotonic()). Called a few times a second."""
        self._memory.look(self._sample_periods(), now)
        for name, ends_at in self._served_certificates().items():
            if (line := self._certificates.look(name, ends_at, self._clock())) is not None:
                self._log.log(*line)

    # ---- what is read

    def observed(self) -> Observed:
        """All of it, at this moment."""
        now = time.monotonic()
        for slot in self._cluster.slots():
            self._oom_kills[slot] += 0  # The series of a slot stays, as any counter, when the slot is scaled away.
        return Observed(
            backlogs=backlogs(self._sockets),
            memory=self._memory.by_slot(self._pids(), now),
            oom_kills=self._oom_kills,
            backoffs=self._backoffs(now),
            boot_seconds=self._boot_seconds(),
            cgroup=self._cgroup.usage(),
            rollout_seconds=self._rollout_seconds,
            import_seconds=self._import_seconds,
            certificates=self._served_certificates(),
            log_records_dropped=self._log.lost,
            release=self._releases.known.get(self._cluster.serving),
        )

    def _sample_periods(self) -> dict[int, float]:
        """How often the memory of each living worker is to be read, by its pid."""
        limits = {pid: self._configurations.of(child.generation).limits for pid, child in self._workers().items()}
        return {pid: LIMITED_SAMPLE_SECONDS if each.max_memory else SAMPLE_SECONDS for pid, each in limits.items()}

    def _pids(self) -> dict[int, int]:
        """The slot of each living worker, by its pid."""
        return {pid: child.slot for pid, child in self._workers().items()}

    def _workers(self) -> dict[int, Child]:
        """The living workers, by their pids."""
        return {child.pid: child for child in self._children.all() if child.slot and child.pid is not None}

    def _backoffs(self, now: float) -> dict[int, SlotBackoff]:
        backoffs, waits = self._cluster.table.backoffs, {each.slot: each for each in waiting_slots(self._cluster)}
        return {
            slot: SlotBackoff(
                backoffs.get(slot, Backoff()).failures,
                max(0.0, waits[slot].retry_at - now) if slot in waits else 0.0,
            )
            for slot in self._cluster.slots()
        }

    def _boot_seconds(self) -> dict[int, float]:
        """Of the newest worker of each slot that has been ready."""
        workers = sorted(self._cluster.table.workers.values(), key=lambda worker: worker.serial)
        return {each.slot: each.ready_at - each.since for each in workers if each.ready_at is not None}

    def _served_certificates(self) -> dict[str, float]:
        serving = self._cluster.serving
        if serving not in self._certificate_ends:
            return {}
        return {str(self._configurations.of(serving).tls.certificate): self._certificate_ends[serving]}
