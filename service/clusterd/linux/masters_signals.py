"""Signals that are meant for the master, in the processes that it has started.

`systemctl kill -s HUP clusterd`, as many other programs that send a signal to a service, sends it to every process of
the control group. By default it would end all but the master.
"""

import signal
from types import FrameType

REQUESTS = frozenset({signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2})
"""What is asked of a service that goes on (master/signals.py), and USR2, which other servers give a meaning that
clusterd has no use for."""

STOPS = frozenset({signal.SIGINT, signal.SIGTERM})
"""What templates and hooks leave to the master: it ends them when it has no use for them any more."""

EARLY = REQUESTS | STOPS
"""What is blocked from exec until the process has decided what becomes of it (master/spawn.py)."""


def ignore() -> None:
    """Let all of them pass in this process, and unblock them.

    A handler that does nothing, and not SIG_IGN: what is ignored stays ignored after exec(2), in every program that
    the application starts; a handler does not. System calls are restarted, so that no C library sees an EINTR.
    """
    for number in EARLY:
        signal.signal(number, _pass)
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)


def heed_stops() -> None:
    """Have a stop end the process, where `ignore` has let it pass; handlers of the application stay."""
    for number in STOPS:
        if signal.getsignal(number) in (_pass, signal.default_int_handler):
            signal.signal(number, signal.SIG_DFL)


def _pass(number: int, frame: FrameType | None) -> None:
    """The master is told the same, and acts on it."""
