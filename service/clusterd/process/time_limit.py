"""Interrupts a call when its time is over."""

import signal
from collections.abc import Callable
from time import monotonic
from types import FrameType

MOMENT_SECONDS = 0.1
"""The least time a call gets, and the time after which one that goes on all the same is interrupted again."""


class OutOfTime(BaseException):
    """Raised inside a call whose time is over. No Exception, so that code that catches every error lets it through."""


def interrupted(call: Callable[[], object], until: float) -> bool:
    """Call it, and return whether it had to be interrupted: at `until`, by time.monotonic(), OutOfTime is raised in it.

    To be called in the main thread, where Python runs signal handlers (`signal` in its manual). It uses SIGALRM, so it
    is for the end of a process only, when the application needs that signal no more. What waits inside a C library that
    does not return to Python is not interrupted.
    """
    signal.signal(signal.SIGALRM, _raise)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    try:
        signal.setitimer(signal.ITIMER_REAL, max(MOMENT_SECONDS, until - monotonic()), MOMENT_SECONDS)
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    return False


def _raise(_: int, __: FrameType | None) -> None:
    raise OutOfTime
