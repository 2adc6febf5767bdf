"""What can happen. A `serial` names one process for ever: every fork and template gets the next number."""

from dataclasses import dataclass

from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart


@dataclass(frozen=True, slots=True)
class Event:
    """What all events are."""


@dataclass(frozen=True, slots=True)
class Start(Event):
    """The first generation is wanted; `first_start` tells of attempts that earlier processes have made."""

    settings: Settings
    first_start: FirstStart = NOT_TRIED


@dataclass(frozen=True, slots=True)
class ReloadAsked(Event):
    """Somebody wants a rollout: SIGHUP or the control socket."""


@dataclass(frozen=True, slots=True)
class ConfigurationRead(Event):
    """The answer to ReadConfiguration: the file is good."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(Event):
    """The answer to ReadConfiguration: the file is bad."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestartAsked(Event):
    """Somebody wants the worker in a slot replaced; `number` comes back with RestartEnded."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class ScaleAsked(Event):
    """More (positive) or fewer workers; of a cluster that starts only where it `may_be_early`."""

    change: int
    may_be_early: bool = False
    """A program knows what it asks for; an operator's signal that comes early is one too many."""


@dataclass(frozen=True, slots=True)
class CountAsked(Event):
    """So many workers, whatever a rollout that is under way would make of it; `may_be_early` as above."""

    workers: int
    may_be_early: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked(Event):
    """Drain and finish; asked again, or `at_once`: kill and finish."""

    at_once: bool = False


@dataclass(frozen=True, slots=True)
class StopAnnounced(Event):
    """A StopAsked follows, when the sockets are closed that end with the service.

    What asks for the stop may have told the workers too (`systemctl kill`): they leave, and have not failed.
    """


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed; sent when `Supervisor.wake_at` is due."""


@dataclass(frozen=True, slots=True)
class TemplateLoaded(Event):
    """The template has imported the application and can fork."""

    serial: int


@dataclass(frozen=True, slots=True)
class TemplateFailed(Event):
    """The application does not import, or what is imported with it."""

    serial: int
    reason: str
    what: str = "application"
    permanent: bool = False
    """To import the same files again would fail again."""


@dataclass(frozen=True, slots=True)
class TemplateUnforkable(Event):
    """The application imports, but what its import started would not survive a fork."""

    serial: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpareReady(Event):
    """A copy of a template said hello."""

    serial: int


@dataclass(frozen=True, slots=True)
class TemplateGone(Event):
    """A template or spare is dead, or was never born. `how` says it in words."""

    serial: int
    how: str


@dataclass(frozen=True, slots=True)
class WorkerHello(Event):
    """A forked worker has a pid."""

    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    """The application is loaded and, where there is one, the health check was answered."""

    serial: int


@dataclass(frozen=True, slots=True)
class WorkerFailed(Event):
    """A worker says, or its health check showed, that it cannot serve. Its exit follows or is enforced."""

    serial: int
    reason: str
    permanent: bool = False
    """Its successor would fail the same way."""


@dataclass(frozen=True, slots=True)
class WorkerKilled(Event):
    """Somebody sends a worker a signal that ends it. That it serves nobody any more is its exit's to tell."""

    serial: int


@dataclass(frozen=True, slots=True)
class WorkerGone(Event):
    """A worker's process is reaped, or its fork never came to be. `how` says it in words."""

    serial: int
    how: str
    by_signal: bool = False
    code: int | None = None
    """As `subprocess` has it: the exit status, or the number of the signal, negative. None: it never was a process."""
    for_memory: bool = False
    """The signal was probably the kernel's, for want of memory."""
    in_hand: tuple[str, ...] = ()
    """The requests that it called the application for, each a method and a path, as far as that is known."""


@dataclass(frozen=True, slots=True)
class WorkerStalled(Event):
    """A worker's loop, or all its threads, have made no progress for so many seconds."""

    serial: int
    seconds: float
    what: str


@dataclass(frozen=True, slots=True)
class WorkerTurned(Event):
    """The event loop of a draining worker has turned after its deadline, at `at` (seconds, the clock of `step`)."""

    serial: int
    at: float


@dataclass(frozen=True, slots=True)
class RequestLimitReached(Event):
    """A worker has served limits.max_requests."""

    serial: int


@dataclass(frozen=True, slots=True)
class RequestOverdue(Event):
    """A thread of a worker has not answered `request` within timeouts.request."""

    serial: int
    request: str


@dataclass(frozen=True, slots=True)
class MemoryLimitReached(Event):
    """A worker's private memory is above limits.max_memory. In bytes."""

    serial: int
    found: int
    allowed: int


@dataclass(frozen=True, slots=True)
class DebuggerListens(Event):
    """Somebody may stop a worker at a breakpoint from now on, for as long as they like."""

    serial: int


@dataclass(frozen=True, slots=True)
class SuccessorLost(Event):
    """Whoever took over a draining worker's connections is gone, and some are left."""

    serial: int
