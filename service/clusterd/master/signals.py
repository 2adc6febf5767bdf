"""The signals of the master, in one table. A handler enqueues an event; the loop acts on it."""

import asyncio
import signal
from collections.abc import Callable

from clusterd.supervisor.events import Event, ReloadAsked, ScaleAsked, StopAsked

EVENTS: dict[signal.Signals, Event] = {
    signal.SIGHUP: ReloadAsked(),
    signal.SIGTERM: StopAsked(),
    signal.SIGURG: StopAsked(),
    signal.SIGINT: StopAsked(),
    signal.SIGQUIT: StopAsked(at_once=True),
    signal.SIGTTIN: ScaleAsked(+1),
    signal.SIGTTOU: ScaleAsked(-1),
}
"""What each signal asks of the supervisor. Beside these: USR1 writes the state to the log, CHLD reaps, and USR2, which
other servers give a meaning, does nothing. Workers, templates and hooks let them pass (linux/masters_signals.py)."""


def handle_signals(
    loop: asyncio.AbstractEventLoop,
    happened: Callable[[Event], None],
    reap: Callable[[], None],
    write_state: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Install every handler of the master on `loop`. `say` tells the operator something."""
    for number, event in EVENTS.items():
        loop.add_signal_handler(number, happened, event)
    # A round later: of signals that come together the kernel has the handler of the last one run first, and whoever has
    # died of a stop that the master was asked for as well has not failed.
    loop.add_signal_handler(signal.SIGCHLD, loop.call_soon, reap)
    loop.add_signal_handler(signal.SIGUSR1, write_state)
    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:  # it may be the program's (`Cluster`)
        loop.add_signal_handler(signal.SIGUSR2, say, "SIGUSR2 asks nothing of clusterd; SIGHUP is a reload")
