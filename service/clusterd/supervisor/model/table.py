"""Everything the supervisor knows: workers, templates, slots, generations, and questions about them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

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
    """The supervisor's view of one worker process, dead or alive."""

    serial: int
    slot: int
    generation: int
    template: int
    since: float
    """When it was asked for."""
    deadline: float
    """When it must be ready; later, when its drain must be over."""
    state: WorkerState = WorkerState.FORKING
    pid: int | None = None
    ready_at: float | None = None
    end: EndReason | None = None
    """Why we made it end."""
    detail: str = ""
    """Why, in words: what it or its health check said."""
    recycle: EndReason | None = None
    """It shall be replaced by a successor of its own generation, when its turn comes."""
    recycle_note: str = ""
    """Why, in words, where that takes more than one."""
    stacks_at: float | None = None
    """When its stacks were last asked for."""
    turned_at: float = 0.0
    """When its event loop was first seen to turn after the deadline of its drain; 0 as long as it was not."""
    needs_successor: bool = False
    """It drains, and whoever took its connections is gone."""
    is_killed: bool = False
    """Somebody has had a signal sent to it that ends it."""
    is_debugged: bool = False
    """It may stand still at a breakpoint: nothing that it does, or does not do, is a reason to replace it."""

    def move(self, state: WorkerState) -> None:
        """Change the state. Raises IllegalMove."""
        self.state = checked_move(f"worker {self.serial}", self.state, state, MOVES)


@dataclass(slots=True)
class Template:
    """The supervisor's view of a template or of a spare."""

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
    """Its template holds the application: workers can be forked again whatever is on disk now."""
    spare_not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class FirstStart:
    """How the first start goes. Times in seconds on the clock of `step`."""

    failures: int = 0
    """How many attempts have failed, those of earlier processes of the same service included."""
    reason: str = ""
    """Why the last one failed."""
    retry_at: float = 0.0
    """When the next attempt is made."""
    give_up_at: float | None = None
    """When clusterd ends after a failed attempt, so that the service manager hears of it and starts it again."""
    failures_here: int = 0
    """How many attempts have failed in this process."""
    is_reading: bool = False
    """The configuration is being read for the next attempt."""
    answers_reload: bool = False
    """The attempt under way has begun after the reload that is pending was asked for."""
    was_cut: bool = False
    """Given up while an attempt was under way: the next process makes it again at once."""


NOT_TRIED = FirstStart()
"""Nothing has been attempted yet, and there is no hurry."""


class RolloutPhase(Enum):
    """How far a rollout is."""

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
    """How many there shall be when it is over."""
    opened: list[int] = field(default_factory=list)
    """The slots that belong to the new generation by now, in the order they were opened."""
    failure: str = ""
    deadline: float = 0.0
    """When a withdrawal stops waiting for the old generation's return."""


@dataclass(slots=True)
class Table:
    """Who exists. Changed only by the modules of this package."""

    workers: dict[int, Worker] = field(default_factory=dict)
    templates: dict[int, Template] = field(default_factory=dict)
    generations: dict[int, Generation] = field(default_factory=dict)
    backoffs: dict[int, Backoff] = field(default_factory=dict)
    """Of the slots whose workers failed before they were ready."""
    fallen: list[int] = field(default_factory=list)
    """The slots whose worker had been ready and died, in that order: they are forked again within `budget`."""
    budget: RestartBudget = field(default_factory=RestartBudget)

    def in_slot(self, slot: int) -> list[Worker]:
        """Every living worker of a slot, the newest first."""
        return sorted((w for w in self.workers.values() if w.slot == slot), key=lambda w: -w.serial)

    def in_state(self, *states: WorkerState) -> list[Worker]:
        """Every worker in one of `states`, the oldest first."""
        return [worker for worker in self.workers.values() if worker.state in states]

    def heir(self, slot: int, generation: int) -> Worker | None:
        """The worker that has, or is on the way to have, `slot` for `generation`."""
        candidates = [
            worker for worker in self.in_slot(slot) if worker.generation == generation and worker.recycle is None
        ]
        for worker in candidates:
            if worker.state is WorkerState.READY:
                return worker
        return next((worker for worker in candidates if worker.state in COMING), None)

    def forkable(self, generation: int) -> Template | None:
        """The template that forks for `generation` now."""
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
        """Nothing that has happened in `slot` holds up its next worker."""
        self.backoffs.pop(slot, None)
        if slot in self.fallen:
            self.fallen.remove(slot)

    def _templates_of(self, generation: int, *states: TemplateState) -> Iterator[Template]:
        return (t for t in self.templates.values() if t.generation == generation and t.state in states)
