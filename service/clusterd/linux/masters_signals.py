"""Signals that are meant for the master, in the processes that it has started.

`systemctl kill -s HUP clusterd`, as many other programs that send a signal to a service, sends it to every process of
the control group. By default it would end all but the master.
"""

import os
import signal
from _thread import get_ident
from collections.abc import Callable
from functools import cache
from types import FrameType

REQUESTS = frozenset({signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2})
"""What is asked of a service that goes on (master/signals.py), and USR2, which other servers give a meaning that
clusterd has no use for."""

STOPS = frozenset({signal.SIGINT, signal.SIGTERM})
"""What templates and hooks leave to the master: it ends them when it has no use for them any more."""

EARLY = REQUESTS | STOPS
"""What is blocked from exec until the process has decided what becomes of it (master/children/spawn.py)."""

BLOCKED = frozenset({signal.SIGSTKFLT})
"""WatchdogSignal= of the unit, which systemd sends to the whole control group when the master hangs: it ends only the
master. Blocked for good, also in what the application starts, so that requests in flight are answered. Linux itself
never sends this signal (signal(7)). The default, SIGABRT, still ends a worker that an operator sends it to."""


def ignore() -> None:
    """Let all of them pass in this process, and unblock them.

    Not in what it forks: a worker has something to finish, and what the application forks (`multiprocessing`) is ended
    by a stop.

    A handler that does nothing, and not SIG_IGN: what is ignored stays ignored after exec(2), in every program that
    the application starts; a handler does not. System calls are restarted, so that no C library sees an EINTR.
    """
    for number in EARLY:
        signal.signal(number, _pass)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)
    _heed_stops_in_children()


@cache
def _heed_stops_in_children() -> None:
    """Once in a process, which its forks know. Stops wait meanwhile: one that comes at once ends the child, too."""
    os.register_at_fork(before=_hold_stops, after_in_parent=_release_stops, after_in_child=_heed_stops)


_masks: dict[int, set[signal.Signals | int]] = {}
"""What was blocked before, by the thread that forks."""


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
    """Have `handler` called at a stop, in this process alone.

    At a SIGINT only where the application has no handler of its own.
    """
    _ours.append(handler)
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, *_ours):
        signal.signal(signal.SIGINT, handler)


def _pass(number: int, frame: FrameType | None) -> None:
    """The master is told the same, and acts on it."""


_ours: list[object] = [_pass]
"""Handlers of clusterd, which the children of a process are not to have; those of the application stay."""
