"""Handles signals that are meant for the master in the processes that it has started.

`systemctl kill -s HUP clusterd`, and many other programs that signal a service, send the signal to every process of the
control group. Its default action would end all processes except the master.
"""

import os
import signal
from _thread import get_ident
from collections.abc import Callable
from functools import cache
from types import FrameType

REQUESTS = frozenset({signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2})
"""The requests to a running service (master/signals.py)."""

STOPS = frozenset({signal.SIGINT, signal.SIGTERM})
"""Signals that templates and hooks processes leave to the master. The master ends them when it no longer needs them."""

EARLY = REQUESTS | STOPS
"""The signals that are blocked from exec until the process has set their handlers (master/children/spawn.py)."""

BLOCKED = frozenset({signal.SIGSTKFLT})
"""The WatchdogSignal= of the unit. systemd sends it to the whole control group when the master hangs, and it must end
only the master. It stays blocked, also in processes that the application starts, so that in-flight requests are
answered. Linux itself never sends this signal (signal(7)). The default, SIGABRT, still ends a worker to which an
operator sends it."""


def ignore() -> None:
    """Ignore these signals in this process and unblock them.

    The children of the process do not ignore stops: a worker has requests to finish, and a process that the application
    forks (`multiprocessing`) must end at a stop.

    A handler that does nothing is used and not SIG_IGN: an ignored signal stays ignored after exec(2), in every program
    that the application starts, but a handler does not. System calls are restarted, so that no C library sees EINTR.
    """
    for number in EARLY:
        signal.signal(number, _pass)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    _heed_stops_in_children()


@cache
def _heed_stops_in_children() -> None:
    """Register the fork handlers once; forks inherit them. A stop during a fork is held, and then ends the child."""
    os.register_at_fork(before=_hold_stops, after_in_parent=_release_stops, after_in_child=_heed_stops)


_masks: dict[int, set[signal.Signals | int]] = {}
"""The signals that were blocked before, by the thread that forks."""


def _hold_stops() -> None:
    _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _release_stops() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop(get_ident()))


def _heed_stops() -> None:
    for number in STOPS:
        if signal.getsignal(number) in _ours:
            signal.signal(number, signal.SIG_DFL)
    _release_stops()


def obey_stops(handler: Callable[[int, FrameType | None], object]) -> None:
    """Call `handler` at a stop, in this process only.

    SIGINT calls it only if the application has no handler of its own.
    """
    _ours.append(handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, *_ours):
        signal.signal(signal.SIGINT, handler)


def _pass(number: int, frame: FrameType | None) -> None:
    """Do nothing. The master gets the same signal and acts on it."""


_ours: list[object] = [_pass]
"""The handlers of clusterd, which a child process must not keep. Handlers of the application stay."""
