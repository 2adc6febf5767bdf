"""One worker process: it serves the application and communicates with the master.

The names below are the interface for applications, `from clusterd import worker`. docs/messages.md explains it.
"""

from threading import Event as _Event
from typing import TYPE_CHECKING

from clusterd.worker import api as _api
from clusterd.worker.api import Disconnected, NotInWorker, QueueFull, RequestFailed, on, request, request_id, send

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
    "request_id",
    "send",
    "should_stop",
    "stop_event",
]

stop_event: _Event = _api.stop_event
"""Set when this worker should stop. The template and its workers have the same object, so it may be kept at import."""

if TYPE_CHECKING:
    id: int  # noqa: A001 - the name in Node's cluster module
    pid: int
    generation: int
    should_stop: bool
    is_worker: bool
else:

    def __getattr__(name: str) -> object:
        """Compute the attributes that differ between processes forked from one import."""
        if name in _api.FACTS:
            return _api.FACTS[name]()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
