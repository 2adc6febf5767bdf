"""The cluster as a program sees it: one that is its own master, or the hooks of an application under the daemon.

`from clusterd import Cluster` is for the former (docs/node-cluster.md); what a hooks module may use, as
`from clusterd import cluster`, is below (docs/hooks.md). Imported in templates and workers too, where application and
cluster are one file: at its import it needs the standard library and nothing else, and the master only when a `Cluster`
runs.
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
        """What changes while a hooks process runs."""
        if name in _api.FACTS:
            return _api.FACTS[name]()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
