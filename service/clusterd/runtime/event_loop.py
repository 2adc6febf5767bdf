"""The event loop of a worker."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextvars import Context
from threading import main_thread
from time import sleep
from typing import TypeVarTuple

from clusterd.runtime import originals
from clusterd.runtime.hub import is_used

_Arguments = TypeVarTuple("_Arguments")

RETRY_SECONDS = 0.01
"""Between looks whether there are descriptors to run the loop."""

_kept: list[tuple[socket.socket, socket.socket]] = []
"""The pair of sockets of the next run, if there is one."""


def _pair() -> tuple[socket.socket, socket.socket]:
    """What uvloop has in place of `socket.socketpair`: the pair that is kept, or a new one."""
    try:
        return _kept.pop()
    except IndexError:
        return originals.socketpair()


def keep_none() -> None:
    """Close the pair that is kept, if there is one."""
    while _kept:
        for each in _kept.pop():
            each.close()


os.register_at_fork(after_in_child=keep_none)  # The parent's would be woken by the signals of both.


# uvloop makes a pair of sockets each time that it is run in the main thread, by what is `socket.socketpair` when it is
# imported. A run that fails for want of descriptors cannot be tried again, and an application at its limit may take any
# that are free for a moment.
_python_has = socket.socketpair
socket.socketpair = _pair  # type: ignore[assignment]
try:
    import uvloop
finally:
    socket.socketpair = _python_has


class LastingLoop(uvloop.Loop):
    """Can be run again although the process has no descriptors left: a pair of sockets is kept for the next run."""

    def __init__(self) -> None:
        super().__init__()
        can_run_here()

    def run_forever(self) -> None:
        """Run until `stop`. Waits for descriptors, if there were none after the last run."""
        if originals.get_ident() != main_thread().ident or self.is_running() or self.is_closed():
            super().run_forever()
            return
        while not can_run_here():
            sleep(RETRY_SECONDS)
        try:
            super().run_forever()
        finally:
            can_run_here()

    def close(self) -> None:
        """Close the loop, which does not run."""
        keep_none()
        super().close()


def can_run_here() -> bool:
    """Whether the main thread can run a loop: the pair of sockets for it is kept, or there are descriptors for one."""
    if not _kept:
        try:
            _kept.append(originals.socketpair())
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return False
            raise
    return True


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
