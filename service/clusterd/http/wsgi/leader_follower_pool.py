"""A pool of threads that the event loop is lent to while calls are short.

The way of a request to a thread, and of its answer back, takes two switches of threads: for short calls that is most of
what they cost. So while calls are short and many, the loop's owner lends the loop to one thread of the pool. That
thread runs the loop until requests wait, calls the application for them, outside of the loop, and runs the loop again:
nobody has to be woken. Meanwhile the owner looks on. As soon as a call takes its time it has the loop back, and the
calls are made by threads that are woken for them, as in any pool.

The owner is the thread that calls `run`: the process's main thread, which Python hands the signals.
"""

import asyncio
import threading
from collections.abc import Callable
from time import monotonic

from clusterd.http.wsgi.call_durations import CallDurations
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.pool_thread import PoolThread
from clusterd.http.wsgi.threads import ThreadPool

LOOK_SECONDS = 0.001
"""How often the owner looks: a call that takes longer has held up the loop for as long, and at most twice as long."""

FEWEST_CALLS = 4
"""Between two looks, or looking costs more than lending saves."""

TURN_CALLS = 16
"""Calls made in a row, before the loop turns."""


class LeaderFollowerPool(ThreadPool):
    """The threads, and the loop."""

    def __init__(
        self,
        count: int,
        queue_limit: int,
        loop: asyncio.AbstractEventLoop,
        mailbox: Mailbox,
        on_saturation: Callable[[], None],
    ) -> None:
        super().__init__(count, queue_limit, loop.call_soon, mailbox.post, on_saturation)
        self._loop = loop
        self._mailbox = mailbox
        self._durations = CallDurations()
        self._is_run = False
        """Whether the owner is here to take the loop back."""
        self._is_left = False
        self._candidate: PoolThread | None = None
        """Who is lent the loop as soon as it stands still."""
        self._transfer = threading.Lock()
        """Held to say who has the loop, and whether that one runs it or makes calls."""
        self._borrower: PoolThread | None = None
        self._is_running = False
        """Whether the borrower runs the loop. If not, it makes calls, and the loop can be taken from it."""
        self._calls = 0
        """Begun by the borrower."""
        self._will_stop = False
        """The loop that runs was told to. Never twice: what is left of it would stop the next who runs it."""
        self._returned = threading.Lock()
        """Released by a borrower that has no more use for the loop."""
        self._returned.acquire()
        self._failure: BaseException | None = None
        """What ended the loop."""

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        except BaseException as error:  # whoever runs it, the owner has to deal with that
            self._failure = error
        self._will_stop = False

    # ---- the owner

    def run(self) -> None:
        """Run the loop, or have it run, until `leave`. What is raised in it is raised here."""
        self._is_run = True
        while not self._is_left:
            self._run_loop()
            candidate, self._candidate = self._candidate, None
            if candidate is not None:
                self._lend(candidate)
            if self._failure is not None:
                raise self._failure
        self._is_run = False

    def leave(self) -> None:
        """Have `run` return; on the loop."""
        self._is_left = True
        self._stop_loop()

    def _lend(self, thread: PoolThread) -> None:
        self._calls = 0
        self._mailbox.hold()
        self._borrower = thread
        thread.wake()
        waited, seen = False, -1
        while not waited and not self._returned.acquire(timeout=LOOK_SECONDS):
            calls = self._calls
            if calls - seen < FEWEST_CALLS:
                waited = self._want_back(is_stuck=calls == seen)
            seen = calls
        self._durations.begin_again(self._calls, waited=waited)
        self._mailbox.release()
        self._searching = True
        self._loop.call_soon(self._wake_one)

    def _want_back(self, *, is_stuck: bool) -> bool:
        """Take the loop from a borrower that is stuck in a call, or have one that runs it return it."""
        with self._transfer:
            if self._borrower is None:
                return False  # it has returned it just now
            if not self._is_running:
                if is_stuck:
                    self._borrower = None
                return is_stuck
        self._loop.call_soon_threadsafe(self._stop_lent_loop)
        return False

    # ---- on the loop

    def _wake(self, thread: PoolThread) -> None:
        if self._is_run and self._candidate is None and len(self._waiting) > 1 and self._durations.is_short:
            self._candidate = thread
            self._stop_loop()
        else:
            thread.wake()

    def _announce(self) -> None:
        if self._borrower is None:
            super()._announce()
        else:
            self._stop_loop()

    def _stop_lent_loop(self) -> None:
        """For it to be returned; one that was returned meanwhile goes on."""
        if self._borrower is not None:
            self._stop_loop()

    def _stop_loop(self) -> None:
        if not self._will_stop:
            self._will_stop = True
            self._loop.stop()

    # ---- in a thread of the pool

    def woken(self, thread: PoolThread, /) -> None:
        """To use the loop, or to look for a job."""
        if self._borrower is thread:
            self._use_loop(thread)  # afterwards the owner sees to it that somebody looks
        else:
            super().woken(thread)

    def took(self, seconds: float, jobs: int, /) -> None:
        """So many jobs have taken so long."""
        self._durations.took(seconds, jobs)

    def waits(self, thread: PoolThread, /) -> None:
        """Its job cannot go on before the loop has turned: then it must not have the loop."""
        with self._transfer:
            if self._borrower is thread:
                self._return_loop()

    def _use_loop(self, thread: PoolThread) -> None:
        """Make calls and run the loop in turn, as long as that makes sense."""
        while True:
            made = self._make_calls(thread)
            with self._transfer:
                if self._borrower is not thread:
                    return  # it was taken back
                if not made or self._is_left or self._failure is not None or self._durations.is_long:
                    self._return_loop()
                    return
                self._is_running = True
                self._mailbox.release()
            if self._waiting:
                self._stop_loop()  # after one turn
            self._run_loop()
            with self._transfer:
                self._is_running = False
                self._mailbox.hold()

    def _make_calls(self, thread: PoolThread) -> int:
        """Returns how many it were."""
        made, began = 0, monotonic()
        while made < TURN_CALLS and self._borrower is thread:
            try:
                job = self._waiting.popleft()
            except IndexError:
                break
            made += 1
            self._calls += 1
            thread.do(job, began)
        if made:
            self._durations.took(monotonic() - began, made)
        return made

    def _return_loop(self) -> None:
        self._borrower = None
        self._returned.release()
