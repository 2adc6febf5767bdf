"""One thread of a pool that calls the application, and the interface of its pool."""

import threading
import traceback
from time import monotonic
from typing import Protocol

from clusterd.http.wsgi.runner import Job, Room, Runner, RunnerState
from clusterd.runtime import originals
from clusterd.runtime.threads import CallingThread

# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_IDLE, _WORKING = RunnerState.IDLE, RunnerState.WORKING


class Pool(Protocol):
    """The source of a thread's jobs. All methods are called in the thread."""

    @property
    def is_stopping(self) -> bool:
        """Whether the thread should end when it finds no job."""

    def woken(self, thread: "PoolThread", /) -> None:
        """The thread was parked, and was woken."""

    def next_job(self, thread: "PoolThread") -> Job | None:
        """Return the next job of the thread, or park the thread and return None."""

    def took(self, seconds: float, jobs: int, /) -> None:
        """Record that `jobs` jobs have taken `seconds` together."""

    def waits(self, thread: "PoolThread", /) -> None:
        """The thread's job cannot continue before the loop has turned."""


class PoolThread(Runner):
    """One thread. `progress` is the time, by time.monotonic(), at which its job last called the server."""

    __slots__ = ("_baton", "_pool", "_python_thread", "progress")

    def __init__(self, pool: Pool, number: int) -> None:
        self._python_thread = CallingThread(self._run, f"clusterd-{number}")
        super().__init__()
        self.progress = monotonic()
        self._pool = pool
        self._baton = originals.Lock()
        self._baton.acquire()

    @property
    def name(self) -> str:
        """The name of the thread, as in threading."""
        return self._python_thread.name

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if the system refuses another thread."""
        self._python_thread.start()

    def end(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the thread to end. Returns whether it has ended."""
        self._python_thread.join(timeout)
        return not self._python_thread.is_alive()

    def note_progress(self) -> None:
        """Record that the application has called the server."""
        self.progress = monotonic()

    def new_room(self) -> threading.Event:
        """Return what its call can wait at."""
        return threading.Event()

    def wait_for_client(self, room: Room) -> None:
        """Block until the client has read."""
        self.state = RunnerState.WAITING_FOR_CLIENT
        self._pool.waits(self)
        room.wait()

    def wake(self) -> None:
        """Have the parked thread look for a job."""
        self._baton.release()

    def _run(self) -> None:
        self.thread = originals.get_ident()
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
        """Run one job. `now` is time.monotonic(), read for it or for those that were run just before it."""
        self.progress = self.began = now
        self.state = _WORKING
        try:
            job.run(self, now)
        except BaseException:
            # Jobs handle their own errors, so this is an error of clusterd. The thread must go on: it is not replaced.
            traceback.print_exc()
        self.state = _IDLE
