"""Signals that come before anybody can act on them: they wait in the kernel, instead of ending the process.

Imports nothing that takes time.
"""

import signal

from clusterd.linux import masters_signals

_HELD = masters_signals.EARLY | {signal.SIGURG}
"""What is asked of a service (master/signals.py). QUIT is not held: it ends also a start that hangs."""


def hold_signals() -> None:
    """Have them wait from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def let_signals_through() -> None:
    """Have those that wait delivered, and all that follow."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
