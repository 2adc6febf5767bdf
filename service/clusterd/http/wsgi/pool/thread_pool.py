"""The pool of threads that calls the application, and its progress.

The design minimizes thread switches. Python runs one thread at a time, so passing a job to a thread costs two switches,
and threads that are woken together mostly wait for each other. Therefore at most one woken thread looks for jobs at any
time, and it runs one job after the other. Before it begins a job while others wait, it asks the loop to wake the next
thread. The loop gets to that when the job blocks and releases the interpreter. If no job blocks, no job is left by
then, and no thread is woken for nothing. Measured with 16 connections and 4 threads: 1.8 times the requests of a pool
that wakes a thread for each job.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from clusterd.http.connection_source import ConnectionSource
from clusterd.http.ports import Counters
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.pool.leadership import Leadership
from clusterd.http.wsgi.pool.pool_thread import PoolThread
from clusterd.http.wsgi.runner import Job, JobRunners, RunnerState
from clusterd.runtime import originals


class ThreadPool(JobRunners):
    """Threads, each started when it is first needed, and the queue of jobs.

    The thread that was parked last is woken first: its stack and its connections to other services are warm. Methods
    are called on the loop's thread unless their docstring says "In the thread".
    """

    def __init__(
        self,
        count: int,
        queue_limit: int,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        on_saturation: Callable[[], None],
        counters: Counters,
    ) -> None:
        super().__init__(count, queue_limit, on_saturation, counters)
        self._loop = loop
        self._mailbox = mailbox
        self._leadership = Leadership(loop, mailbox, self._jobs_waiting)
        self._searching = False
        """Whether a woken thread is about to take the waiting jobs. A further job then need not wake another thread."""
        self._lock = originals.Lock()
        """Held to park a thread or to take a parked one, so that no thread parks while a job waits."""
        self._parked: list[PoolThread] = []
        self._threads: list[PoolThread] = []
        self._refused = False
        """Whether the system refused the last thread that the pool wanted to start."""
        self.is_stopping = False

    def begin(self) -> bool:
        """Start the first thread. False if the system refuses it."""
        with self._lock:
            return self._is_able()

    def accept_from(self, source: ConnectionSource | None) -> None:
        """Have the leader accept connections from this source, or none."""
        self._leadership.source = source

    def leave_to_leader(self) -> bool:
        """Connections have come. Returns False if there is no leader to accept them: the caller does."""
        return self._leadership.leave_to_leader()

    def run(self) -> None:
        """Run the event loop, or have a thread of the pool run it, until `leave`. Raises what ended the loop."""
        self._leadership.run(self._announce_again)

    def leave(self) -> None:
        """Make `run` return."""
        self._leadership.leave()

    @property
    def leader(self) -> PoolThread | None:
        """The thread of the pool that runs the loop. None if the thread that called `run` does."""
        return self._leadership.leader

    @property
    def usable(self) -> int:
        """Number of threads that there are or can be."""
        return len(self._threads) if self._refused else self.count

    def _is_able(self) -> bool:
        return bool(self._threads) or self._another()

    def _announce(self) -> None:
        """Have a thread woken for the waiting jobs, unless one is on its way. It takes all of this round."""
        if not (self._leadership.announce() or self._searching):
            self._announce_again()

    def _announce_again(self) -> None:
        self._searching = True
        self._loop.call_soon(self._wake_one)

    def _wake_one(self) -> None:
        with self._lock:
            if not self._jobs_waiting or not (self._parked or self._another()):
                # There is no job, or all threads work, and each looks for the next job when it has finished.
                self._searching = False
                return
            thread = self._parked.pop()
        self._leadership.wake(thread)

    def _another(self) -> bool:
        """Start a thread, and park it. Returns False if there are enough threads or the system refuses one."""
        if len(self._threads) == self.count or self.is_stopping:
            return False
        thread = PoolThread(self, len(self._threads) + 1)
        try:
            thread.start()
        except RuntimeError:  # A limit on threads (TasksMax=, pids.max). The pool continues with those it has.
            self._refused = True
            return False
        self._refused = False
        self._threads.append(thread)
        self._parked.append(thread)
        return True

    def woken(self, thread: PoolThread, /) -> None:
        """The thread begins to lead, or to look for jobs. For a later job another thread is woken. In the thread."""
        if not self._leadership.lead(thread):
            self._searching = False

    def took(self, seconds: float, jobs: int, /) -> None:
        """Record that `jobs` jobs have taken `seconds` together. In the thread."""
        self._leadership.took(seconds, jobs)

    def waits(self, thread: PoolThread, /) -> None:
        """The thread's job cannot continue before the loop has turned. In the thread."""
        self._leadership.waits(thread)

    def next_job(self, thread: PoolThread) -> Job | None:
        """Return the next job of the thread, or park the thread and return None. In the thread."""
        waiting = self._jobs_waiting
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                if self._park(thread):
                    return None
                continue
            if waiting and not self._searching:
                self._searching = True
                self._mailbox.post(self._wake_one)
            return job

    def _park(self, thread: PoolThread) -> bool:
        with self._lock:
            if self._jobs_waiting:
                return False
            if not self.is_stopping:
                self._parked.append(thread)
            return True

    def progress(self, now: float) -> float:
        """When the pool last made progress, by time.monotonic(); `now` while a thread is idle or waits for a client."""
        if len(self._threads) < self.count:
            return now
        latest = 0.0
        for thread in self._threads:
            if thread.state is not RunnerState.WORKING:
                return now
            latest = max(latest, thread.progress)
        return latest if self._threads else now

    def stop(self, timeout: float) -> bool:
        """End the threads after the waiting jobs. Returns whether all ended within `timeout` seconds. Blocks."""
        deadline = monotonic() + timeout
        with self._lock:
            self.is_stopping = True
            parked, self._parked = self._parked, []
        for thread in parked:
            thread.wake()
        ended = [thread.end(max(0.0, deadline - monotonic())) for thread in self._threads]
        return all(ended)
