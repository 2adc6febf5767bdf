"""What the master is told to do. Actions of one step are carried out in their order."""

from dataclasses import dataclass
from enum import Enum

from clusterd.supervisor.model.states import EndReason


@dataclass(frozen=True, slots=True)
class Action:
    """What all actions are."""


@dataclass(frozen=True, slots=True)
class ReadConfiguration(Action):
    """Read and validate the whole configuration; answer with ConfigurationRead or ConfigurationRefused."""


@dataclass(frozen=True, slots=True)
class StartTemplate(Action):
    """Exec a template for a generation."""

    serial: int
    generation: int
    preload: bool
    refuse_unforkable: bool


@dataclass(frozen=True, slots=True)
class ForkSpare(Action):
    """Have the template `template` fork an idle copy of itself."""

    serial: int
    template: int
    generation: int


@dataclass(frozen=True, slots=True)
class EndTemplate(Action):
    """Kill a template or spare: it holds nothing that could be lost."""

    serial: int


@dataclass(frozen=True, slots=True)
class Fork(Action):
    """Have the template `template` fork a worker."""

    serial: int
    template: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Serve(Action):
    """Let a worker accept connections."""

    serial: int


@dataclass(frozen=True, slots=True)
class Retire(Action):
    """A worker stops accepting; its connections go to `successor`, or are closed when they are done."""

    serial: int
    successor: int | None
    seconds: float
    idle_seconds: float
    linger: bool


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """SIGKILL a worker (or abandon a fork that has no pid yet)."""

    serial: int
    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class DumpStacks(Action):
    """Log what every thread of a worker or template is doing."""

    serial: int
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerEnded(Action):
    """Log and count the end of a worker; its row and its place in the table are free."""

    serial: int
    slot: int
    generation: int
    pid: int | None
    reason: EndReason
    how: str
    retry_in: float | None
    """Seconds until its slot is forked again, where that is held up."""
    code: int | None = None
    """As in WorkerGone."""


@dataclass(frozen=True, slots=True)
class WatchRequests(Action):
    """For so many seconds, have workers write down which requests they have in hand."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Suspect(Action):
    """Tell that `request`, a method and a path, was in the hands of `deaths` workers that died within `seconds`."""

    request: str
    deaths: int
    seconds: float


class Announcement(Enum):
    """What the service manager is told."""

    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Announce(Action):
    """Tell the service manager; `generation` is the one that serves."""

    what: Announcement
    generation: int


@dataclass(frozen=True, slots=True)
class RolloutStarted(Action):
    """Rollout `number` begins."""

    number: int


@dataclass(frozen=True, slots=True)
class RolloutEnded(Action):
    """Rollout `number` is over; `failure` is None when every slot now runs `generation`."""

    number: int
    generation: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class RestartEnded(Action):
    """Restart `number` is over; `failure` is None when a successor serves in the slot, else why none does."""

    number: int
    slot: int
    failure: str | None


class Severity(Enum):
    """How much a note of the supervisor matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Note(Action):
    """Log a line."""

    severity: Severity
    text: str
    slot: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Finish(Action):
    """Nothing is left to look after: leave with this exit status."""

    exit_status: int
    reason: str
