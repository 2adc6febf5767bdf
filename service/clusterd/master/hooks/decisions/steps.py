"""What can happen to hooks processes, and what the master is told to do about it (`hooks.py`)."""

from dataclasses import dataclass
from enum import Enum


class HookState(Enum):
    """Where a hooks process is in its life."""

    LOADING = "loading"
    READY = "ready"
    """It has imported its module, and is told nothing yet."""
    TOLD = "running"
    LEAVING = "leaving"
    """It gets through with what it was told last, and ends."""
    ENDING = "ending"
    """It was killed, and is not reaped."""


HOOK_MOVES: dict[HookState, frozenset[HookState]] = {
    HookState.LOADING: frozenset({HookState.READY, HookState.ENDING}),
    HookState.READY: frozenset({HookState.TOLD, HookState.ENDING}),
    HookState.TOLD: frozenset({HookState.LEAVING, HookState.ENDING}),
    HookState.LEAVING: frozenset({HookState.ENDING}),
    HookState.ENDING: frozenset(),
}
"""A process that is gone is out of the table: every state leads there."""


# ---- events


@dataclass(frozen=True, slots=True)
class Event:
    """What all events are."""


@dataclass(frozen=True, slots=True)
class GenerationBegins(Event):
    """A template is started, for the first generation or for a rollout."""

    generation: int
    has_hooks: bool
    load_seconds: float
    """For the import of the module."""
    leave_seconds: float
    """For the last handler, when the generation is over."""


@dataclass(frozen=True, slots=True)
class GenerationServes(Event):
    """A rollout has ended, and this one serves; every other is over."""

    generation: int


@dataclass(frozen=True, slots=True)
class Loaded(Event):
    """A hooks process has imported its module."""

    serial: int


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """A hooks process could not; it ends by itself."""

    serial: int
    reason: str
    permanent: bool = False
    """To import the same files again would fail again."""


@dataclass(frozen=True, slots=True)
class Gone(Event):
    """A hooks process is reaped, or never came to be."""

    serial: int
    how: str


@dataclass(frozen=True, slots=True)
class Emptied(Event):
    """There is nothing more to tell for now."""


@dataclass(frozen=True, slots=True)
class Stop(Event):
    """Nothing more will happen: tell what waits, for so long, and end. Asked again, the later time does not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed; sent when `wake_at` is due."""


# ---- actions


@dataclass(frozen=True, slots=True)
class Action:
    """What all actions are."""


@dataclass(frozen=True, slots=True)
class Start(Action):
    """Exec a hooks process."""

    serial: int
    generation: int


@dataclass(frozen=True, slots=True)
class Tell(Action):
    """Tell it what happens from now on, and no other."""

    serial: int


@dataclass(frozen=True, slots=True)
class Leave(Action):
    """Tell it nothing more, and let it go when it is through with what it was told last."""

    serial: int


@dataclass(frozen=True, slots=True)
class ShowStacks(Action):
    """Log what it is doing."""

    serial: int
    detail: str


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """SIGKILL."""

    serial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Good(Action):
    """The hooks of a generation load."""

    generation: int


@dataclass(frozen=True, slots=True)
class Bad(Action):
    """The hooks of a generation do not load; `reason` in one line, `permanent` as in Failed."""

    generation: int
    reason: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Died(Action):
    """Log and count a death that nobody ordered."""

    serial: int
    generation: int
    how: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Finished(Action):
    """Asked to stop: no process is left."""
