"""Blocks signals that arrive before the process can handle them. They stay pending and do not end the process.

This module imports nothing that takes time.
"""

import signal

from clusterd.linux import masters_signals

_HELD = masters_signals.EARLY | {signal.SIGURG}
"""The signals that ask the service for something (master/signals.py). QUIT is not held, so that it can end a start
that hangs."""


def hold_signals() -> None:
    """Block the signals from now on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def let_signals_through() -> None:
    """Unblock the signals. Pending ones are delivered."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
