"""A signal that somebody wants a worker to have: an operator, or a program."""

from collections.abc import Callable
from signal import SIGINT, SIGKILL, SIGTERM, Signals

from clusterd.master.children.table import Child, Children
from clusterd.supervisor.events import Event, WorkerKilled

_ENDS = (SIGTERM, SIGINT, SIGKILL)


def send_signal(worker: Child, number: int, who: str, children: Children, happened: Callable[[Event], None]) -> None:
    """Send it; `who` is named where the worker's end is told, which is no failure of the worker's then."""
    children.signal(worker, number)
    worker.signal_asked_for = f"{Signals(number).name} by {who}"
    if number in _ENDS:
        happened(WorkerKilled(worker.serial))
