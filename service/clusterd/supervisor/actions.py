"""The actions of the supervisor, which the master carries out. The actions of one step are carried out in order."""

from enum import Enum

from clusterd.records import dataclass
from clusterd.supervisor.model.held import NOTHING_HELD, Cause, Held
from clusterd.supervisor.model.load import ScaleCause
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.model.states import EndReason


@dataclass(frozen=True, slots=True)
class Action:
    """The base class of the actions."""


@dataclass(frozen=True, slots=True)
class ReadConfiguration(Action):
    """Read and validate the whole configuration. The answer is ConfigurationRead or ConfigurationRefused."""


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
    """Have a template end: it runs what the application's import has registered to run once (process/exit_handlers.py).

    It has no connections, so nothing is lost.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class KillTemplate(Action):
    """Kill a template or spare that has nothing to end, or that is stuck."""

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
    """Tell a worker to accept connections."""

    serial: int


@dataclass(frozen=True, slots=True)
class Retire(Action):
    """Tell a worker to stop accepting, and to hand over its connections to `successor`.

    Without a successor, each connection is closed when its request is answered. `seconds` is the time limit.
    """

    serial: int
    successor: int | None
    seconds: float
    idle_seconds: float
    linger: bool


@dataclass(frozen=True, slots=True)
class SetKeepAlive(Action):
    """Have a worker keep its connections after a response, or close them while it accepts new ones."""

    serial: int
    is_on: bool


@dataclass(frozen=True, slots=True)
class RotationChanged(Action):
    """Tell load balancers, and those who look, whether requests are to be sent here."""

    rotation: Rotation
    is_drained: bool
    """An operator wants it, so the next start of the service keeps it."""
    stops: bool
    """The service leaves because it stops."""
    seconds: float
    """How long everything goes on as before, if it leaves."""


@dataclass(frozen=True, slots=True)
class BeginStop(Action):
    """Load balancers had the time to notice: close the sockets that end with the service. StopAsked follows."""


@dataclass(frozen=True, slots=True)
class Kill(Action):
    """Send SIGKILL to a worker, or give up a fork that has no pid yet."""

    serial: int
    reason: EndReason
    detail: str


@dataclass(frozen=True, slots=True)
class DumpStacks(Action):
    """Log the stacks of the threads of a worker or template."""

    serial: int
    detail: str


@dataclass(frozen=True, slots=True)
class WorkerEnded(Action):
    """Log and count the end of a worker. Its scoreboard row and its place in the table are free."""

    serial: int
    slot: int
    generation: int
    pid: int | None
    reason: EndReason
    how: str
    retry_in: float | None
    """Seconds until its slot is forked again; None if nothing holds that up."""
    code: int | None = None
    """The exit status or the negative number of the signal, as in WorkerGone."""
    held: Held = NOTHING_HELD
    """The requests that it had in hand."""
    cause: Cause | None = None
    """What it died of; None if it never had a process, or has left as it was asked to with nothing in hand."""
    is_candidate: bool = False
    """It belonged to a generation that does not serve: that of a rollout that is under way or was withdrawn."""


@dataclass(frozen=True, slots=True)
class Suspect(Action):
    """Report that `request`, a method and a path, was in-flight in `deaths` workers that died within `seconds`."""

    request: str
    deaths: int
    seconds: float


class Announcement(Enum):
    """A state that is announced to the service manager."""

    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Announce(Action):
    """Announce a state to the service manager. `generation` is the one that serves."""

    what: Announcement
    generation: int


@dataclass(frozen=True, slots=True)
class RolloutStarted(Action):
    """Rollout `number` begins."""

    number: int


@dataclass(frozen=True, slots=True)
class RolloutEnded(Action):
    """Rollout `number` has ended. `failure` is None if every slot now runs `generation`."""

    number: int
    generation: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class RestartEnded(Action):
    """Restart `number` has ended. `failure` is None if a successor serves in the slot, or else the reason."""

    number: int
    slot: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Scaled(Action):
    """Report that another number of workers is wanted, or that the same number is asked for."""

    before: int
    workers: int
    cause: ScaleCause
    reason: str
    """The cause in words."""
    generation: int


class Severity(Enum):
    """The severity of a Note."""

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
    """End clusterd with this exit status: no worker and no template is left."""

    exit_status: int
    reason: str
