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
"""What each signal asks of the supervisor. Beside these: USR1 writes the state to the log, CHLD reaps."""


def handle_signals(
    loop: asyncio.AbstractEventLoop,
    happened: Callable[[Event], None],
    reap: Callable[[], None],
    write_state: Callable[[], None],
) -> None:
    """Install every handler of the master on `loop`."""
    for number, event in EVENTS.items():
        loop.add_signal_handler(number, happened, event)
    loop.add_signal_handler(signal.SIGCHLD, reap)
    loop.add_signal_handler(signal.SIGUSR1, write_state)
