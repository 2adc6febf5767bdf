"""Calls an application that uses gevent: each request in a greenlet of the main thread.

The event loop runs in a native thread beside the hub (`runtime/hub.py`). It passes jobs to the hub, and the calls pass
their responses back through the mailbox, both with one wake-up for many.
"""

import asyncio
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Final

from clusterd.http.forks import FORKS
from clusterd.http.ports import Counters
from clusterd.http.wsgi.runner import Job, JobRunners, Room, Runner, RunnerState
from clusterd.runtime.hub import Hub, this_greenlet


class Greenlets(JobRunners):
    """Up to `count` greenlets at a time, and the queue of jobs."""

    what = "greenlet"

    def __init__(
        self,
        count: int,
        queue_limit: int,
        loop: asyncio.AbstractEventLoop,
        hub: Hub,
        on_saturation: Callable[[], None],
        counters: Counters,
    ) -> None:
        super().__init__(count, queue_limit, on_saturation, counters)
        self._loop = loop
        self._hub = hub
        self._running = 0
        """Number of greenlets. Known to the hub's thread."""
        self._is_woken = False
        """Whether the hub is about to take the waiting jobs."""
        self._asked_at = 0.0
        self._has_turned = True
        """Whether the hub has turned since `_asked_at`."""

    def run(self) -> None:
        """Run the event loop beside the hub until `leave`."""
        self._hub.beside(self._loop.run_forever)

    def leave(self) -> None:
        """Make `run` return."""
        self._loop.stop()

    def stop(self, _: float) -> bool:
        """Do nothing: the end of the process joins the greenlets (process/ending.py)."""
        return True

    def progress(self, now: float) -> float:
        """When the hub last turned, by time.monotonic(), known to the tick. A greenlet that computes stops it."""
        if self._has_turned:
            self._has_turned = False
            self._asked_at = now
            self._hub.call_soon(self._turned)
        return self._asked_at

    def _announce(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._hub.call_soon(self._begin_jobs)

    # ---- in the hub's thread

    def _turned(self) -> None:
        self._has_turned = True

    def _begin_jobs(self) -> None:
        # Cleared before the queue is read: a job that comes after the last read sees it cleared, and wakes the hub.
        self._is_woken = False
        while self._running < self.count:
            try:
                job = self._jobs_waiting.popleft()
            except IndexError:
                return
            self._running += 1
            self._hub.spawn_here(self._run, job)

    def _run(self, job: Job) -> None:
        FORKS.end_if_fork()
        try:
            job.run(_Greenlet(self._hub), monotonic())
        except BaseException:
            # Jobs handle their own errors, so this is an error of clusterd.
            traceback.print_exc()
        self._running -= 1
        if self._jobs_waiting:
            self._begin_jobs()


class _Greenlet(Runner):
    """The greenlet of one call."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        super().__init__(this_greenlet())
        self.began = monotonic()
        self.state = RunnerState.WORKING
        self._hub: Final = hub

    def note_progress(self) -> None:
        """Do nothing: the progress of greenlets is that of their hub."""

    def new_room(self) -> Room:
        """Return what its call can wait at."""
        return self._hub.new_signal()

    def wait_for_client(self, room: Room) -> None:
        """Switch to other greenlets until the client has read."""
        self.state = RunnerState.WAITING_FOR_CLIENT
        room.wait()
