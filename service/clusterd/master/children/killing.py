"""Send a worker a signal that an operator or a program has asked for."""

from collections.abc import Callable
from signal import SIGINT, SIGKILL, SIGTERM, Signals

from clusterd.master.children.child import Child
from clusterd.master.children.table import Children
from clusterd.supervisor.events import Event, WorkerKilled

_ENDS = (SIGTERM, SIGINT, SIGKILL)


def send_signal(worker: Child, number: int, who: str, children: Children, post_event: Callable[[Event], None]) -> None:
    """Send a signal. Events and log lines about the worker's end name `who`, and do not count it as a failure."""
    children.signal(worker, number)
    worker.signal_asked_for = f"{Signals(number).name} by {who}"
    if number in _ENDS:
        post_event(WorkerKilled(worker.serial))
