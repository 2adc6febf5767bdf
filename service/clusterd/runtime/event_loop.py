"""The event loop of a worker."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextvars import Context
from threading import main_thread
from time import sleep
from typing import TypeVarTuple

import uvloop

from clusterd.runtime import originals
from clusterd.runtime.hub import is_used

_Arguments = TypeVarTuple("_Arguments")

RETRY_SECONDS = 0.01
"""Between looks whether there are descriptors to run the loop."""


class LastingLoop(uvloop.Loop):
    """Can be run again although the process has no descriptors left.

    uvloop makes a pair of sockets each time that it is run in the main thread, and a run that fails for want of them
    cannot be tried again. So two descriptors are kept for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[int] = []
        self._has_descriptors()

    def run_forever(self) -> None:
        """Run until `stop`. Waits for descriptors, if others have taken what was kept."""
        if originals.get_ident() != main_thread().ident:
            super().run_forever()
            return
        while not self._has_descriptors():
            sleep(RETRY_SECONDS)
        self._free_descriptors()
        try:
            super().run_forever()
        finally:
            self._has_descriptors()

    def close(self) -> None:
        """Close the loop, which does not run."""
        self._free_descriptors()
        super().close()

    def _has_descriptors(self) -> bool:
        try:
            while len(self._kept) < 2:
                self._kept.append(os.eventfd(0, os.EFD_CLOEXEC))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return False
            raise
        return True

    def _free_descriptors(self) -> None:
        while self._kept:
            originals.close(self._kept.pop())


class ObservedLoop(LastingLoop):
    """Notes that a callback was scheduled, so that a thread that has the loop can leave it standing until then."""

    has_work = False

    def call_soon(
        self,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have `callback` called in the next turn."""
        self.has_work = True
        return super().call_soon(callback, *args, context=context)

    def run_forever(self) -> None:
        """Run until `stop`."""
        self.has_work = False
        super().run_forever()


def has_work(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether something may have been scheduled since the loop has stopped. Not what uvloop itself has scheduled."""
    return not isinstance(loop, ObservedLoop) or loop.has_work


def new_event_loop(*, is_observed: bool = False) -> asyncio.AbstractEventLoop:
    """Make the loop, and make it the one that `asyncio.get_event_loop()` returns in the main thread.

    With gevent, the application's greenlets are in that thread and the loop runs in another one. They must not find it:
    what they gave it to do would not be safe, and it cannot be run until something is complete.

    An observed loop is slower for what schedules much.
    """
    loop = ObservedLoop() if is_observed and not is_used() else LastingLoop()
    if not is_used():
        asyncio.set_event_loop(loop)
    return loop
