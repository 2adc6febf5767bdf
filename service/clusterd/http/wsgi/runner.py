"""What runs the application's calls: the threads of a pool, greenlets, or the event loop's own thread."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import Any, Protocol

from clusterd.http.connection_source import ConnectionSource
from clusterd.http.ports import Counters


class RunnerState(Enum):
    """The state of what runs a call."""

    IDLE = auto()
    WORKING = auto()
    WAITING_FOR_CLIENT = auto()
    """The application has produced more than the client has read. This is not a hang."""


class Room(Protocol):
    """Lets a call wait until the client has read."""

    def set(self) -> None:
        """Let the call go on. Called on the loop's thread."""

    def wait(self) -> object:
        """Wait for `set`. Called by the call."""

    def clear(self) -> None:
        """Have the next `wait` wait for another `set`. Called by the call."""


class Runner:
    """A thread or a greenlet that runs one call at a time."""

    __slots__ = ("began", "greenlet", "state", "thread")

    def __init__(self, greenlet: Any = None) -> None:
        self.greenlet = greenlet
        """None for a thread."""
        self.began = 0.0
        """When its call began, by time.monotonic()."""
        self.thread = 0
        """The identifier of the thread; 0 for a greenlet."""
        self.state = RunnerState.IDLE

    def note_progress(self) -> None:
        """Record that the application has called the server."""
        raise NotImplementedError

    def new_room(self) -> Room:
        """Return what its call can wait at."""
        raise NotImplementedError

    def wait_for_client(self, room: Room) -> None:
        """Wait until the client has read."""
        raise NotImplementedError


class Job(Protocol):
    """A call that waits for a runner."""

    queued_at: float
    """When the job was submitted, by time.monotonic()."""

    def run(self, runner: Runner, now: float) -> None:
        """Run the job. Called once, in `runner`. `now` is time.monotonic(), a few short jobs ago at most."""


class Runners:
    """The runners of a worker. Methods are called on the loop's thread."""

    count = 0
    """How many there should be; 0 where the loop's thread calls the application."""

    @property
    def usable(self) -> int:
        """Number of runners that there are or can be; 0 where the loop's thread calls the application."""
        return 0

    @property
    def busy(self) -> int:
        """Number of runners with a job."""
        raise NotImplementedError

    @property
    def free(self) -> int:
        """Number of runners without a job, including those not started yet."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Number of jobs that no runner can take at once."""
        raise NotImplementedError

    def progress(self, now: float) -> float:
        """When a job last made progress, by time.monotonic(); `now` while nothing is stuck."""
        raise NotImplementedError

    def begin(self) -> bool:
        """Have a runner from the start, so that a worker that is ready can answer. False if the system refuses one."""
        return True

    def run(self) -> None:
        """Run the event loop until `leave`. Called in the main thread. Raises what ended the loop."""
        raise NotImplementedError

    def accept_from(self, source: ConnectionSource | None) -> None:
        """Accept connections from this source, or none, in a runner that has the loop."""

    def leave_to_leader(self) -> bool:
        """Connections have come. Returns False if the caller has to accept them."""
        return False

    def leave(self) -> None:
        """Make `run` return."""
        raise NotImplementedError

    def stop(self, timeout: float) -> bool:
        """End the runners after the waiting jobs. Returns whether all ended within `timeout` seconds. Blocks."""
        raise NotImplementedError


class JobRunners(Runners):
    """Those that run jobs beside the loop, and the queue of jobs.

    `on_saturation` is called when the last free runner gets a job, and when one is free again.
    """

    what = "thread"
    """What runs a job, as the log calls it."""

    def __init__(self, count: int, queue_limit: int, on_saturation: Callable[[], None], counters: Counters) -> None:
        self.count = count
        self._counters = counters
        self._queue_limit = queue_limit
        self._on_saturation = on_saturation
        self._jobs = 0
        """Number of jobs that are submitted and not over."""
        self._jobs_waiting: deque[Job] = deque()

    @property
    def busy(self) -> int:
        """Number of runners with a job."""
        return min(self._jobs, self.usable)

    @property
    def free(self) -> int:
        """Number of runners without a job, including those not started yet."""
        return max(0, self.usable - self._jobs)

    @property
    def waiting(self) -> int:
        """Number of jobs that no runner can take at once."""
        return max(0, self._jobs - self.usable)

    @property
    def usable(self) -> int:
        """Number of runners that there are or can be. Less than `count` if the system refuses more."""
        return self.count

    def submit(self, job: Job) -> bool:
        """Have the job run, now or when a runner is free. Returns False if the queue is full.

        The job must have `over` called when it is done.
        """
        if self._jobs - self.usable >= self._queue_limit or not self._is_able():
            return False
        job.queued_at = monotonic()
        self._jobs_waiting.append(job)
        self._added()
        return True

    def submit_rest(self, job: Job) -> None:
        """Have the rest of a job run that was reported `over` before. It is never refused and comes first, because it
        has waited before. With an infinite `queued_at` it is never withdrawn as too old.
        """
        self._jobs_waiting.appendleft(job)
        self._added()

    def _added(self) -> None:
        self._jobs += 1
        self._counters.jobs_changed(self._jobs)
        if self._jobs == self.count:
            self._on_saturation()
        self._announce()

    def _is_able(self) -> bool:
        """Whether there is a runner, or one can be made."""
        return True

    def _announce(self) -> None:
        """Have a runner take the waiting jobs."""
        raise NotImplementedError

    def over(self) -> None:
        """A job has run, and its result is processed."""
        self._jobs -= 1
        self._counters.jobs_changed(self._jobs)
        if self._jobs == self.count - 1:
            self._on_saturation()

    def withdraw(self, job: Job) -> bool:
        """Take back a waiting job. Returns False if it is running or done."""
        try:
            self._jobs_waiting.remove(job)
        except ValueError:
            return False
        self.over()
        return True

    def withdraw_older(self, queued_before: float) -> list[Job]:
        """Take back and return the jobs that were queued before `queued_before` (time.monotonic())."""
        late = [job for job in list(self._jobs_waiting) if job.queued_at < queued_before]
        return [job for job in late if self.withdraw(job)]
