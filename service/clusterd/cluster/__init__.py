"""The API for programs: `Cluster`, for a program that is its own master, and this module, for the hooks of a service.

A program uses `from clusterd import Cluster` (docs/node-cluster.md). A hooks module uses `from clusterd import
cluster`, which is this module (docs/hooks.md). Templates and workers import it too, if the application and the cluster
are in one file. The import therefore needs only the standard library; the master is imported when a `Cluster` runs.
"""

from collections.abc import Mapping as _Mapping
from typing import TYPE_CHECKING
from typing import Any as _Any

from clusterd.hooks import api as _api
from clusterd.hooks.api import NotInHooks, broadcast, disconnect, fork, on, reload, scale
from clusterd.hooks.handle import Worker
from clusterd.wire.conversation import Disconnected, QueueFull, RequestFailed

__all__ = [
    "Disconnected",
    "NotInHooks",
    "QueueFull",
    "RequestFailed",
    "Worker",
    "broadcast",
    "disconnect",
    "fork",
    "is_hooks",
    "on",
    "reload",
    "scale",
    "settings",
    "workers",
]

if TYPE_CHECKING:
    workers: dict[int, Worker]
    settings: _Mapping[str, _Any]
    is_hooks: bool
else:

    def __getattr__(name: str) -> object:
        """The attributes whose values change while a hooks process runs."""
        if name in _api.FACTS:
            return _api.FACTS[name]()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
