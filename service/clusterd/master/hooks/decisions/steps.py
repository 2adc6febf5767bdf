"""The events and the actions of `HooksSupervisor` (processes.py). master/hooks/manager.py carries out the actions."""

from enum import Enum

from clusterd.records import dataclass


class HookState(Enum):
    """The state of a hooks process."""

    LOADING = "loading"
    READY = "ready"
    """It has imported its module, and receives no events yet."""
    TOLD = "running"
    """It receives the events."""
    LEAVING = "leaving"
    """It handles its last event, and ends."""
    ENDING = "ending"
    """It was killed, and is not reaped yet."""


HOOK_MOVES: dict[HookState, frozenset[HookState]] = {
    HookState.LOADING: frozenset({HookState.READY, HookState.ENDING}),
    HookState.READY: frozenset({HookState.TOLD, HookState.ENDING}),
    HookState.TOLD: frozenset({HookState.LEAVING, HookState.ENDING}),
    HookState.LEAVING: frozenset({HookState.ENDING}),
    HookState.ENDING: frozenset(),
}
"""The possible changes. There is no state for a dead process: it leaves the table, from any state."""


# ---- events


@dataclass(frozen=True, slots=True)
class Event:
    """The base class of the events."""


@dataclass(frozen=True, slots=True)
class GenerationBegins(Event):
    """A template is started, for the first generation or for a rollout."""

    generation: int
    has_hooks: bool
    load_seconds: float
    """The time limit for the import of the module."""
    leave_seconds: float
    """The time limit for the last handler, when the generation is over."""
    is_proven: bool = False
    """Its hooks have loaded under an earlier program of the master."""


@dataclass(frozen=True, slots=True)
class GenerationServes(Event):
    """A rollout has ended and this generation serves. Every other generation is over."""

    generation: int


@dataclass(frozen=True, slots=True)
class Loaded(Event):
    """A hooks process has imported its module."""

    serial: int


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """A hooks process could not import its module. It ends by itself."""

    serial: int
    reason: str
    permanent: bool = False
    """Importing the same files again would fail in the same way."""


@dataclass(frozen=True, slots=True)
class Gone(Event):
    """A hooks process was reaped, or was never created."""

    serial: int
    how: str


@dataclass(frozen=True, slots=True)
class Emptied(Event):
    """No event waits for the hooks at present."""


@dataclass(frozen=True, slots=True)
class Stop(Event):
    """No more events will follow. Deliver those that wait, for `seconds` at most, and end.

    If it is asked for again, the earlier end counts.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed. Sent when `wake_at` is due."""


# ---- actions


@dataclass(frozen=True, slots=True)
class Action:
    """The base class of the actions."""


@dataclass(frozen=True, slots=True)
class Start(Action):
    """Exec a hooks process."""

    serial: int
    generation: int


@dataclass(frozen=True, slots=True)
class Tell(Action):
    """Deliver the events to this process from now on, and to no other."""

    serial: int


@dataclass(frozen=True, slots=True)
class Leave(Action):
    """Deliver nothing more to this process, and let it end when it has handled its last event."""

    serial: int


@dataclass(frozen=True, slots=True)
class ShowStacks(Action):
    """Log the stacks of the process."""

    serial: int
    detail: str


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """Send SIGKILL to the process."""

    serial: int
    reason: str


@dataclass(frozen=True, slots=True)
class Good(Action):
    """The hooks of a generation have loaded."""

    generation: int


@dataclass(frozen=True, slots=True)
class Bad(Action):
    """The hooks of a generation do not load. `reason` is one line; `permanent` is as in Failed."""

    generation: int
    reason: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Died(Action):
    """Log and count an unexpected death of a hooks process."""

    serial: int
    generation: int
    how: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Finished(Action):
    """The hooks were asked to stop, and no process is left."""
