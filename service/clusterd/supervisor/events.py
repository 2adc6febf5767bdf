"""The events that the supervisor processes.

A `serial` identifies one process and is never used again: every fork and every template gets the next number.
"""

from enum import Enum, auto

from clusterd.records import dataclass
from clusterd.supervisor.model.held import NOTHING_HELD, Held
from clusterd.supervisor.model.load import ScaleCause
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart


@dataclass(frozen=True, slots=True)
class Event:
    """The base class of the events."""


@dataclass(frozen=True, slots=True)
class Start(Event):
    """Start the first generation. `first_start` describes the attempts of earlier master processes."""

    settings: Settings
    first_start: FirstStart = NOT_TRIED
    is_drained: bool = False
    """The service begins out of the rotation of load balancers, as an operator has asked for."""


@dataclass(frozen=True, slots=True)
class ReloadAsked(Event):
    """A reload is requested, by SIGHUP, the control socket, --watch, the hooks or the program."""


@dataclass(frozen=True, slots=True)
class ConfigurationRead(Event):
    """The answer to ReadConfiguration: the configuration is valid."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(Event):
    """The answer to ReadConfiguration: the configuration is invalid."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestartAsked(Event):
    """The replacement of the worker in a slot is requested. RestartEnded has the same `number`."""

    number: int
    slot: int


@dataclass(frozen=True, slots=True)
class ScaleAsked(Event):
    """More workers (a positive `change`) or fewer are requested."""

    change: int
    may_be_early: bool = False
    """Whether this also applies while the cluster starts. True for a program, False for an operator's signal."""


@dataclass(frozen=True, slots=True)
class CountAsked(Event):
    """A number of workers is requested. It also replaces the number that a rollout under way would set.

    `may_be_early` is as in ScaleAsked.
    """

    workers: int
    may_be_early: bool = False


@dataclass(frozen=True, slots=True)
class ConfiguredCountAsked(Event):
    """The number of the configuration is requested, in place of one that was asked for."""


@dataclass(frozen=True, slots=True)
class CountDecided(Event):
    """clusterd itself has decided on a number of workers, from what they were seen to do (supervisor/elastic.py)."""

    workers: int
    cause: ScaleCause
    reason: str


class Urgency(Enum):
    """What a stop may cost."""

    DRAIN = auto()
    """Requests have until `timeouts.drain`, however often the stop is requested."""
    INTERRUPT = auto()
    """The same, but a second request is one at once: somebody waits for the end at a terminal."""
    AT_ONCE = auto()
    """Requests are cut."""


@dataclass(frozen=True, slots=True)
class StopAsked(Event):
    """A stop is requested: drain, or kill, and finish."""

    urgency: Urgency = Urgency.DRAIN


@dataclass(frozen=True, slots=True)
class DrainAsked(Event):
    """The service is to leave the rotation of load balancers, and then to go on, or to stop."""

    stops: bool = False


@dataclass(frozen=True, slots=True)
class UndrainAsked(Event):
    """The service is to take requests from load balancers again."""


@dataclass(frozen=True, slots=True)
class StopAnnounced(Event):
    """A StopAsked will follow, once the sockets that end with the service are closed.

    The same request may also have reached the workers (`systemctl kill`). A worker that then exits has not failed.
    """


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed. Sent when `Supervisor.wake_at` is due."""


@dataclass(frozen=True, slots=True)
class TemplateLoaded(Event):
    """The template has imported the application and can fork."""

    serial: int


@dataclass(frozen=True, slots=True)
class TemplateFailed(Event):
    """The import of the application failed, or that of the part named by `what` (the hooks)."""

    serial: int
    reason: str
    what: str = "application"
    permanent: bool = False
    """Importing the same files again would fail in the same way."""


@dataclass(frozen=True, slots=True)
class TemplateUnforkable(Event):
    """The application was imported, but the import started something that would not survive a fork."""

    serial: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpareReady(Event):
    """The spare of a template has sent its first message."""

    serial: int


@dataclass(frozen=True, slots=True)
class TemplateGone(Event):
    """A template or spare is dead, or was never created. `how` describes it in words."""

    serial: int
    how: str


@dataclass(frozen=True, slots=True)
class WorkerHello(Event):
    """A forked worker has a pid."""

    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    """The application is loaded, and the health check, if one is configured, has succeeded."""

    serial: int


@dataclass(frozen=True, slots=True)
class WorkerFailed(Event):
    """A worker reported, or its health check showed, that it cannot serve. Its exit follows or is enforced."""

    serial: int
    reason: str
    permanent: bool = False
    """Its successor would fail in the same way."""


@dataclass(frozen=True, slots=True)
class WorkerKilled(Event):
    """An operator or a program sends a worker a signal that ends it. WorkerGone follows when the worker has ended."""

    serial: int


@dataclass(frozen=True, slots=True)
class WorkerGone(Event):
    """A worker's process was reaped, or its fork failed. `how` describes it in words."""

    serial: int
    how: str
    by_signal: bool = False
    code: int | None = None
    """The exit status, or the negative number of the signal, as in `subprocess`. None if there never was a process."""
    for_memory: bool = False
    """The kernel sent the signal, or probably did, because memory ran out."""
    held: Held = NOTHING_HELD
    """The requests that the application was handling."""


@dataclass(frozen=True, slots=True)
class WorkerStalled(Event):
    """The event loop of a worker, or all of its threads, have made no progress for `seconds`. `what` says which."""

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
    """A worker has served limits.max_requests requests."""

    serial: int


@dataclass(frozen=True, slots=True)
class RequestOverdue(Event):
    """A thread of a worker has not answered `request` within timeouts.request."""

    serial: int
    request: str


@dataclass(frozen=True, slots=True)
class MemoryLimitReached(Event):
    """The private memory of a worker is above limits.max_memory. Both numbers are in bytes."""

    serial: int
    found: int
    allowed: int


@dataclass(frozen=True, slots=True)
class DebuggerListens(Event):
    """A debugger listens in a worker. From now on the worker may stand at a breakpoint for any time."""

    serial: int


@dataclass(frozen=True, slots=True)
class SuccessorLost(Event):
    """The successor of a draining worker has ended, and the worker has connections left to hand over."""

    serial: int


@dataclass(frozen=True, slots=True)
class RetireFailed(Event):
    """A worker could not be told to leave. The usual reason is that descriptors have run out."""

    serial: int
