"""The signals of the master, in one table. A handler enqueues an event; the loop acts on it."""

import asyncio
import signal
from collections.abc import Callable

from clusterd.supervisor.events import Event, ReloadAsked, ScaleAsked, StopAsked, Urgency

EVENTS: dict[signal.Signals, Event] = {
    signal.SIGHUP: ReloadAsked(),
    signal.SIGTERM: StopAsked(),
    signal.SIGURG: StopAsked(),
    signal.SIGINT: StopAsked(Urgency.INTERRUPT),
    signal.SIGQUIT: StopAsked(Urgency.AT_ONCE),
    signal.SIGTTIN: ScaleAsked(+1),
    signal.SIGTTOU: ScaleAsked(-1),
}
"""The event of each signal. In addition, SIGUSR1 writes the state to the log, SIGUSR2 upgrades, and SIGCHLD reaps.
Workers, templates and hooks ignore these signals (linux/masters_signals.py)."""


def handle_signals(
    loop: asyncio.AbstractEventLoop,
    post_event: Callable[[Event], None],
    reap: Callable[[], None],
    write_state: Callable[[], None],
    upgrade: Callable[[], None],
) -> None:
    """Install every signal handler of the master, for `loop` to run."""
    for number, event in EVENTS.items():
        _handle(loop, number, post_event, event)
    # Reap one turn of the loop later. Of signals that arrive together, the kernel runs the handler of the last one
    # first. If a stop reaches the master and a worker together, the master must handle it before it reaps the worker:
    # a worker that ends because of a stop has not failed.
    _handle(loop, signal.SIGCHLD, loop.call_soon, reap)
    _handle(loop, signal.SIGUSR1, write_state)
    if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:  # A program that uses `Cluster` may have its own handler.
        _handle(loop, signal.SIGUSR2, upgrade)
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)


def _handle(loop: asyncio.AbstractEventLoop, number: int, call: Callable[..., object], *arguments: object) -> None:
    """Have the loop make this call soon after a signal.

    asyncio passes the numbers of signals through the socket by which other threads wake the loop. If a few hundred
    calls of threads wait, that socket is full, and the number is lost. So it only wakes the loop here, which a full
    socket does too.
    """

    def pass_on(*_: object) -> None:
        if not loop.is_closed():  # A child may end while asyncio closes the loop, before it takes the handlers away.
            loop.call_soon_threadsafe(call, *arguments)

    loop.add_signal_handler(number, _nothing)
    signal.signal(number, pass_on)
    signal.siginterrupt(number, False)


def _nothing() -> None:
    """The loop has been woken."""
