"""One thread that calls the application, and what it has to do."""

import threading
import traceback
from enum import Enum, auto
from time import monotonic
from typing import Protocol


class ThreadState(Enum):
    """What a thread of the pool is doing."""

    IDLE = auto()
    WORKING = auto()
    WAITING_FOR_CLIENT = auto()
    """The application gave more than the client has read: no sign of a hang."""


# On Python 3.11 an enum's attribute costs four times as much as a name of the module.
_IDLE, _WORKING = ThreadState.IDLE, ThreadState.WORKING


class Job(Protocol):
    """Something to run in a thread of the pool."""

    queued_at: float
    """Monotonic seconds at which it was submitted."""

    def run(self, thread: "PoolThread") -> None:
        """Do it. Called once, in `thread`."""


class Pool(Protocol):
    """Where a thread gets its jobs from. All methods are called in the thread."""

    @property
    def is_stopping(self) -> bool:
        """Whether there will be no more of them."""

    def woken(self, thread: "PoolThread", /) -> None:
        """The thread was parked, and is awake."""

    def next_job(self, thread: "PoolThread") -> Job | None:
        """What the thread does next. None: it is parked, and waits to be woken."""

    def took(self, seconds: float, jobs: int, /) -> None:
        """So many jobs have taken so long."""

    def waits(self, thread: "PoolThread", /) -> None:
        """The thread's job cannot go on before the loop has turned."""


class PoolThread:
    """One thread. `progress` is the monotonic time at which what it runs last called into the server."""

    __slots__ = ("_baton", "_pool", "_python_thread", "progress", "state")

    def __init__(self, pool: Pool, number: int) -> None:
        # A stuck one must not keep the process alive.
        self._python_thread = threading.Thread(target=self._run, name=f"clusterd-{number}", daemon=True)
        self.state = ThreadState.IDLE
        self.progress = monotonic()
        self._pool = pool
        self._baton = threading.Lock()
        self._baton.acquire()

    def start(self) -> None:
        """Let it run. Raises RuntimeError when the system gives no more threads."""
        self._python_thread.start()

    def end(self, timeout: float) -> bool:
        """Wait for its end, for so many seconds at most. Returns whether it has ended."""
        self._python_thread.join(timeout)
        return not self._python_thread.is_alive()

    def note_progress(self) -> None:
        """The application called into the server."""
        self.progress = monotonic()

    def wait_for_client(self, readable: threading.Event) -> None:
        """The application has to wait until its client has read."""
        self.state = ThreadState.WAITING_FOR_CLIENT
        self._pool.waits(self)
        readable.wait()

    def wake(self) -> None:
        """Have the parked thread look for a job."""
        self._baton.release()

    def _run(self) -> None:
        pool = self._pool
        while True:
            self._baton.acquire()
            pool.woken(self)
            while (job := pool.next_job(self)) is not None:
                began = monotonic()
                self.do(job, began)
                pool.took(monotonic() - began, 1)
            if pool.is_stopping:
                return

    def do(self, job: Job, now: float) -> None:
        """Run one job."""
        self.progress = now
        self.state = _WORKING
        try:
            job.run(self)
        except BaseException:  # a job answers for its own errors; this one is ours, and the
            traceback.print_exc()  # thread must go on: there is no other that would take its place
        self.state = _IDLE
