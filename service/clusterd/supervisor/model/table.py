"""The table of the supervisor: workers, templates, slots and generations, and queries about them."""

from collections.abc import Iterator
from dataclasses import field
from enum import Enum

from clusterd.records import dataclass
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.restart_budget import RestartBudget
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import (
    COMING,
    MOVES,
    TEMPLATE_MOVES,
    EndReason,
    TemplateState,
    WorkerState,
    checked_move,
)


@dataclass(slots=True)
class Worker:
    """The supervisor's record of one worker process."""

    serial: int
    slot: int
    generation: int
    template: int
    since: float
    """When its fork was requested."""
    deadline: float
    """The time until which it must be ready; later, the time until which its drain must end."""
    state: WorkerState = WorkerState.FORKING
    pid: int | None = None
    ready_at: float | None = None
    end: EndReason | None = None
    """Why the supervisor ended it; None if it did not."""
    detail: str = ""
    """The reason in words, for example the report of the worker or the result of its health check."""
    recycle: EndReason | None = None
    """Set if a successor of its own generation must replace it when its turn comes."""
    recycle_note: str = ""
    """The reason for that in words, if EndReason does not say enough."""
    stacks_at: float | None = None
    """When its stacks were last requested."""
    turned_at: float = 0.0
    """When its event loop was first seen to turn after the deadline of its drain; 0 until then."""
    needs_successor: bool = False
    """It drains, and the successor that took its connections has ended, or it could not be told of one."""
    retire_not_before: float = 0.0
    """Not before is it told of another successor, or again to leave."""
    is_killed: bool = False
    """An operator or a program has sent it a signal that ends it."""
    is_debugged: bool = False
    """A debugger listens in it. It may stand at a breakpoint, so no limit or timeout replaces it."""

    def move(self, state: WorkerState) -> None:
        """Change the state. Raises IllegalMove."""
        self.state = checked_move(f"worker {self.serial}", self.state, state, MOVES)


@dataclass(slots=True)
class Template:
    """The supervisor's record of a template or spare."""

    serial: int
    generation: int
    state: TemplateState
    since: float
    stacks_at: float | None = None

    def move(self, state: TemplateState) -> None:
        """Change the state. Raises IllegalMove."""
        self.state = checked_move(f"template {self.serial}", self.state, state, TEMPLATE_MOVES)


@dataclass(slots=True)
class Generation:
    """One import of the application."""

    number: int
    settings: Settings
    preloaded: bool
    """Its template has imported the application, so it can fork workers even if the files on disk have changed."""
    spare_not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class FirstStart:
    """The state of the first start. Times are in seconds, on the clock of `step`."""

    failures: int = 0
    """How many attempts have failed, including those of earlier master processes of the same service."""
    reason: str = ""
    """Why the last one failed."""
    retry_at: float = 0.0
    """When the next attempt is made."""
    give_up_at: float | None = None
    """When clusterd ends after a failed attempt, so that the service manager sees the failure and starts it again."""
    failures_here: int = 0
    """How many attempts have failed in this process."""
    is_reading: bool = False
    """Whether the configuration is being read for the next attempt."""
    answers_reload: bool = False
    """Whether the attempt under way has begun after the request for the pending reload."""
    was_cut: bool = False
    """Whether clusterd gave up during an attempt. The next process repeats that attempt at once."""


NOT_TRIED = FirstStart()
"""No attempt has been made, and there is no time limit."""


class RolloutPhase(Enum):
    """The phase of a rollout."""

    CONFIGURATION = "reading the configuration"
    TEMPLATE = "importing the application"
    REPLACING = "replacing workers"
    WITHDRAWING = "restoring the old generation"


@dataclass(slots=True)
class Rollout:
    """The replacement of every worker by one of the next generation."""

    number: int
    phase: RolloutPhase = RolloutPhase.CONFIGURATION
    generation: int = 0
    """0 until the configuration is read."""
    workers: int = 0
    """The number of workers after the rollout."""
    is_pinned: bool = False
    """An operator or a program has asked for that number since the rollout began."""
    opened: list[int] = field(default_factory=list)
    """The slots that belong to the new generation, in the order in which they were opened."""
    failure: str = ""
    deadline: float = 0.0
    """When a withdrawal stops waiting for the workers of the old generation."""


@dataclass(slots=True)
class Table:
    """The workers, templates and generations that exist. Only the modules of this package change it."""

    workers: dict[int, Worker] = field(default_factory=dict)
    templates: dict[int, Template] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=dict)
    backoffs: dict[int, Backoff] = field(default_factory=dict)
    """The backoff of each slot whose worker failed before it was ready."""
    fallen: list[int] = field(default_factory=list)
    """The slots whose worker died after it was ready, in the order of the deaths. `budget` limits their restarts."""
    budget: RestartBudget = field(default_factory=RestartBudget)

    def in_slot(self, slot: int) -> list[Worker]:
        """Every living worker of a slot, the newest first."""
        return sorted((w for w in self.workers.values() if w.slot == slot), key=lambda w: -w.serial)

    def in_state(self, *states: WorkerState) -> list[Worker]:
        """Every worker in one of `states`, the oldest first."""
        return [worker for worker in self.workers.values() if worker.state in states]

    def heir(self, slot: int, generation: int) -> Worker | None:
        """The worker of `generation` that serves `slot`, or else the one being started for it."""
        candidates = [
            worker for worker in self.in_slot(slot) if worker.generation == generation and worker.recycle is None
        ]
        for worker in candidates:
            if worker.state is WorkerState.READY:
                return worker
        return next((worker for worker in candidates if worker.state in COMING), None)

    def forkable(self, generation: int) -> Template | None:
        """The template that can fork workers of `generation` now."""
        return next(self._templates_of(generation, TemplateState.LOADED), None)

    def coming_template(self, generation: int) -> Template | None:
        """A template of `generation` that may be forkable soon."""
        return next(
            self._templates_of(generation, TemplateState.LOADING, TemplateState.SPARE_COMING, TemplateState.SPARE),
            None,
        )

    def has_template(self, generation: int) -> bool:
        """Whether workers of `generation` can be forked, now or soon."""
        return (self.forkable(generation) or self.coming_template(generation)) is not None

    def forgive(self, slot: int) -> None:
        """Forget the failures in `slot`, so that they do not delay its next worker."""
        self.backoffs.pop(slot, None)
        if slot in self.fallen:
            self.fallen.remove(slot)

    def _templates_of(self, generation: int, *states: TemplateState) -> Iterator[Template]:
        return (t for t in self.templates.values() if t.generation == generation and t.state in states)
