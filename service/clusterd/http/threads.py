"""The pool of threads that calls the application, and what it knows about each one's progress."""

import threading
import time
import traceback
from collections import deque
from enum import Enum, auto
from typing import Protocol


class ThreadState(Enum):
    """What a thread of the pool is doing."""

    IDLE = auto()
    WORKING = auto()
    WAITING_FOR_CLIENT = auto()
    """The application gave more than the client has read: no sign of a hang."""


class Job(Protocol):
    """Something to run in a thread of the pool."""

    queued_at: float
    """Monotonic seconds; set by `submit`."""

    def run(self, thread: "PoolThread") -> None:
        """Do it. Called once, in `thread`."""


class PoolThread(threading.Thread):
    """One thread. `progress` is the monotonic time at which what it runs last called into the server."""

    def __init__(self, pool: "ThreadPool", number: int) -> None:
        super().__init__(name=f"clusterd-{number}", daemon=True)  # a stuck one must not keep the process alive
        self.state = ThreadState.IDLE
        self.progress = time.monotonic()
        self._pool = pool
        self._handed: Job | None = None
        self._baton = threading.Lock()
        self._baton.acquire()

    def note_progress(self) -> None:
        """The application called into the server."""
        self.progress = time.monotonic()

    def hand(self, job: Job | None) -> None:
        """Give the idle thread its next job; None ends it."""
        self._handed = job
        self._baton.release()

    def run(self) -> None:
        """Run one job after the other."""
        job = self._wait()
        while job is not None:
            self.progress = time.monotonic()
            self.state = ThreadState.WORKING
            try:
                job.run(self)
            except BaseException:  # a job answers for its own errors; this one is ours, and the
                traceback.print_exc()  # thread must go on: there is no other that would take its place
            job = self._pool.next_job(self) or self._wait()

    def _wait(self) -> Job | None:
        self._baton.acquire()
        return self._handed


class ThreadPool:
    """Threads, each started when it is first needed, and jobs that wait for one.

    The thread that became idle last is woken first: its stack and its connections to other services are warm.
    All methods are called by the loop's thread, except `next_job`.
    """

    def __init__(self, count: int, queue_limit: int) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._queue_limit = queue_limit
        self._stopping = False
        self._count = count
        self._threads: list[PoolThread] = []
        self._idle: list[PoolThread] = []

    @property
    def idle(self) -> int:
        """Threads without a job, those not started yet included. Thread-safe."""
        return self._count - self.busy

    @property
    def busy(self) -> int:
        """Threads with a job."""
        return len(self._threads) - len(self._idle)

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._waiting)

    def submit(self, job: Job) -> bool:
        """Have the job run, now or when a thread is free. Returns False when too many wait already."""
        with self._lock:
            thread = self._idle.pop() if self._idle else self._another()
            if thread is None:
                if not self._threads or len(self._waiting) >= self._queue_limit:
                    return False
                job.queued_at = time.monotonic()
                self._waiting.append(job)
                return True
        thread.hand(job)
        return True

    def _another(self) -> PoolThread | None:
        if len(self._threads) == self._count:
            return None
        thread = PoolThread(self, len(self._threads) + 1)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more of them (TasksMax=, pids.max): those that run have to do
            return None
        self._threads.append(thread)
        return thread

    def withdraw(self, job: Job) -> bool:
        """Take a job back that still waits. Returns False when it is running or done."""
        with self._lock:
            try:
                self._waiting.remove(job)
            except ValueError:
                return False
            return True

    def withdraw_older(self, queued_before: float) -> list[Job]:
        """Take back the jobs that have waited since before that time (monotonic seconds)."""
        late: list[Job] = []
        with self._lock:
            while self._waiting and self._waiting[0].queued_at < queued_before:
                late.append(self._waiting.popleft())
        return late

    def next_job(self, thread: PoolThread) -> Job | None:
        """What the thread does next. None: it counts as idle from here on, and waits to be handed something."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            thread.state = ThreadState.IDLE
            if self._stopping:
                thread.hand(None)
            else:
                self._idle.append(thread)
            return None

    def progress(self, now: float) -> float:
        """When the pool last made progress: `now` while a thread is idle or waits for a client."""
        if len(self._threads) < self._count:
            return now
        latest = 0.0
        for thread in self._threads:
            if thread.state is not ThreadState.WORKING:
                return now
            latest = max(latest, thread.progress)
        return latest if self._threads else now

    def stop(self, timeout: float) -> bool:
        """End the threads, after the jobs they have. Returns whether all ended within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._stopping = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.hand(None)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)
