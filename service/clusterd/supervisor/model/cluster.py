"""The state of the cluster during one step: the table, the time, and the actions so far.

The basic operations of every decision are here, so that no state changes without the action that goes with it.
"""

from dataclasses import field
from enum import Enum

from clusterd.config.model import Preload
from clusterd.records import dataclass
from clusterd.supervisor.actions import (
    Action,
    DumpStacks,
    EndTemplate,
    Fork,
    ForkSpare,
    Kill,
    KillTemplate,
    Note,
    Retire,
    Serve,
    SetKeepAlive,
    Severity,
    StartTemplate,
)
from clusterd.supervisor.model.restart_budget import RestartLimit
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import COMING, EndReason, TemplateState, WorkerState
from clusterd.supervisor.model.suspects import Suspects
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart, Generation, Rollout, Table, Template, Worker


class Phase(Enum):
    """The phase of the service."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class FailedReload:
    """The last reload, if it failed."""

    number: int
    reason: str
    at: float
    """The time of the failure, on the clock of `step`."""


@dataclass(slots=True)
class ClusterState:
    """The state of the supervisor, and the operations that change it."""

    table: Table = field(default_factory=Table)
    phase: Phase = Phase.STARTING
    now: float = 0.0
    actions: list[Action] = field(default_factory=list)
    wake_at: float | None = None
    """The earliest time at which a decision may change without an event."""
    first_start: FirstStart = NOT_TRIED
    serving: int = 0
    """The generation of the last successful rollout, or of the first start."""
    wanted: int = 0
    """The number of slots."""
    is_pinned: bool = False
    """An operator or a program has asked for `wanted`, so clusterd does not change it itself."""
    rollout: Rollout | None = None
    rollouts: int = 0
    """The number of rollouts that have begun."""
    reload_pending: bool = False
    restarts: dict[int, int] = field(default_factory=dict)
    """The numbers of the restarts under way, by slot."""
    reloaded_at: float | None = None
    """When the last reload succeeded; None if a later one has failed."""
    suspects: Suspects = field(default_factory=Suspects)
    failed_reload: FailedReload | None = None
    exit_status: int = 0
    exit_reason: str = "asked to stop"
    stop_is_announced: bool = False
    """A StopAnnounced was received; StopAsked will follow."""
    rotation: Rotation = Rotation.IN
    out_at: float = 0.0
    """When `Rotation.LEAVING` is over."""
    is_drained: bool = False
    """An operator has taken the service out of the rotation. The next start leaves it out, too."""
    stops_when_out: bool = False
    """The service leaves the rotation, and the stop begins when it is out."""
    killing: bool = False
    """Whether the stop kills the workers instead of draining them."""
    last_serial: int = 0
    last_generation: int = 0
    recovery_not_before: float = 0.0
    """When a generation that has lost its templates may be imported again."""

    def due(self, at: float) -> bool:
        """Whether the time `at` has come. If not, the supervisor receives a Tick then."""
        if self.now >= at:
            return True
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
        return False

    def note(self, severity: Severity, text: str, slot: int | None = None, generation: int | None = None) -> None:
        """Log a line."""
        self.actions.append(Note(severity, text, slot, generation))

    # ---- templates

    def start_template(self, generation: Generation) -> None:
        """Exec a template for `generation`."""
        serial = self._next_serial()
        template = Template(serial, generation.number, TemplateState.LOADING, self.now)
        self.table.templates[serial] = template
        self.actions.append(self.start_of_template(template))

    def start_of_template(self, template: Template) -> StartTemplate:
        """The action that starts a template of the table."""
        generation = self.table.generations[template.generation]
        refuse_unforkable = generation.preloaded and generation.settings.preload is Preload.AUTO
        return StartTemplate(template.serial, generation.number, generation.preloaded, refuse_unforkable)

    def fork_spare(self, template: Template) -> None:
        """Ask `template` for an idle copy of itself."""
        serial = self._next_serial()
        self.table.templates[serial] = Template(serial, template.generation, TemplateState.SPARE_COMING, self.now)
        self.actions.append(ForkSpare(serial, template.serial, template.generation))

    def end_template(self, template: Template) -> None:
        """Have `template` run the application's exit handlers, and end."""
        if template.state is not TemplateState.ENDING:
            template.move(TemplateState.ENDING)
            self.actions.append(EndTemplate(template.serial))

    def kill_template(self, template: Template) -> None:
        """Kill `template`, which has nothing to end, or is stuck."""
        if template.state is not TemplateState.ENDING:
            template.move(TemplateState.ENDING)
            self.actions.append(KillTemplate(template.serial))

    # ---- workers

    def fork(self, slot: int, template: Template) -> None:
        """Ask `template` for a worker in `slot`."""
        serial = self._next_serial()
        settings = self.table.generations[template.generation].settings
        self.table.workers[serial] = Worker(
            serial=serial,
            slot=slot,
            generation=template.generation,
            template=template.serial,
            since=self.now,
            deadline=self.now + settings.boot_timeout,
        )
        self.actions.append(Fork(serial, template.serial, slot, template.generation))

    def serve(self, worker: Worker) -> None:
        """Tell `worker` to accept connections, for the first time or again."""
        worker.move(WorkerState.READY)
        worker.end = None
        if worker.ready_at is None:
            worker.ready_at = self.now
            if self.phase is not Phase.STARTING:
                # The application can start in this slot, so earlier failures do not matter any more.
                self.table.forgive(worker.slot)
        self.actions.append(Serve(worker.serial))
        if self.rotation is Rotation.OUT:
            self.actions.append(SetKeepAlive(worker.serial, is_on=False))

    def retire(self, worker: Worker, successor: Worker | None, reason: EndReason, *, linger: bool = False) -> None:
        """Tell `worker` to stop accepting and to hand over to `successor`. A later call replaces an earlier one."""
        settings = self.table.generations[worker.generation].settings
        state = WorkerState.RETIRED if linger else WorkerState.DRAINING
        if worker.state is not state:
            worker.move(state)
            worker.deadline = self.now + settings.drain
        worker.end = reason
        worker.needs_successor = False
        self.actions.append(
            Retire(
                serial=worker.serial,
                successor=None if successor is None else successor.serial,
                seconds=max(0.0, worker.deadline - self.now),
                idle_seconds=settings.drain_idle,
                linger=linger,
            )
        )

    def kill(self, worker: Worker, reason: EndReason, detail: str = "") -> None:
        """Kill `worker`, unless it was killed already."""
        if worker.state is WorkerState.ENDING:
            return
        worker.move(WorkerState.ENDING)
        worker.end = reason
        worker.detail = worker.detail or detail
        self.actions.append(Kill(worker.serial, reason, detail))

    def kill_coming(self, generation: int, reason: EndReason) -> None:
        """Kill the workers of `generation` that are not ready yet."""
        for worker in self.table.in_state(*COMING):
            if worker.generation == generation:
                self.kill(worker, reason)

    def dump_stacks(self, process: Worker | Template, detail: str, again_after: float) -> None:
        """Log the stacks of a process, at most once every `again_after` seconds."""
        if process.stacks_at is None or self.now - process.stacks_at > again_after:
            process.stacks_at = self.now
            self.actions.append(DumpStacks(process.serial, detail))

    # ---- questions

    @property
    def is_stopping(self) -> bool:
        """Whether a stop is under way or its sockets are being closed."""
        return self.stop_is_announced or self.phase in (Phase.STOPPING, Phase.FINISHED)

    def can_spare_one(self) -> bool:
        """Whether one ready worker can go. The smaller of the numbers before and after a rollout must be left."""
        rollout = self.rollout
        fewest = min(self.wanted, rollout.workers or self.wanted) if rollout is not None else self.wanted
        return len(self.table.in_state(WorkerState.READY)) > fewest

    def slots(self) -> range:
        """The slots that need a worker now."""
        if self.rollout is None or not self.rollout.opened:
            return range(1, self.wanted + 1)
        return range(1, max(self.wanted, *self.rollout.opened) + 1)

    def goal(self, slot: int) -> int:
        """The generation that belongs in `slot` now."""
        if self.rollout is not None and slot in self.rollout.opened:
            return self.rollout.generation
        return self.serving

    def restart_limit(self) -> RestartLimit:
        """The limit for restarts of workers that had been ready, from the settings of the serving generation."""
        settings = self.table.generations[self.serving].settings
        return RestartLimit.of(settings.restart_burst, settings.restart_per, self.wanted)

    def _next_serial(self) -> int:
        self.last_serial += 1
        return self.last_serial
