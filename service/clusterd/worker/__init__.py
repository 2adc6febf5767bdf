"""One worker process: it serves the application and talks to the master.

What an application may use of it, as `from clusterd import worker`, is below; docs/messages.md explains it.
"""

from threading import Event as _Event
from typing import TYPE_CHECKING

from clusterd.worker import api as _api
from clusterd.worker.api import Disconnected, NotInWorker, QueueFull, RequestFailed, on, request, send

__all__ = [
    "Disconnected",
    "NotInWorker",
    "QueueFull",
    "RequestFailed",
    "generation",
    "id",
    "is_worker",
    "on",
    "pid",
    "request",
    "send",
    "should_stop",
    "stop_event",
]

stop_event: _Event = _api.stop_event
"""Set when this worker is to stop. The same object in the template and in its workers."""

if TYPE_CHECKING:
    id: int  # noqa: A001 - as Node's cluster calls it
    pid: int
    generation: int
    should_stop: bool
    is_worker: bool
else:

    def __getattr__(name: str) -> object:
        """What differs between the processes that are forked from one import."""
        if name in _api.FACTS:
            return _api.FACTS[name]()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
