"""The API of a hooks module: it registers handlers of worker events, and has the same commands as `Cluster`.

A hooks module may also be imported outside a hooks process, for example by its tests or by the application. The
handlers that it registers there are never called.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from clusterd.hooks.handle import Worker, leaving_worker
from clusterd.hooks.handle import broadcast as send_to_all
from clusterd.hooks.handlers import CLUSTER_EVENTS, Registry
from clusterd.hooks.master_connection import MasterConnection
from clusterd.hooks.roster import Roster
from clusterd.records import dataclass
from clusterd.wire.conversation import Reply
from clusterd.wire.hooks import Operation, read_worker_event

_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])


class NotInHooks(RuntimeError):
    """The cluster was used outside the hooks process of clusterd, or while the hooks are imported."""


@dataclass(frozen=True, slots=True)
class _Self:
    """The connection and the workers of a hooks process that has imported its module."""

    master: MasterConnection
    roster: Roster


registry = Registry(CLUSTER_EVENTS)
_settings: Mapping[str, Any] | None = None
"""None outside a hooks process. Set before the process imports its module."""
_self: _Self | None = None

FACTS: dict[str, Callable[[], Any]] = {
    "workers": lambda: {} if _self is None else _self.roster.workers(),
    "settings": lambda: dict(_known_settings()),
    "is_hooks": lambda: _settings is not None,
}
"""The attributes of `clusterd.cluster` that are computed at each access."""


# ---- for hooks modules


def on(event: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Register the decorated function, plain or async, as a handler of an event. docs/node-cluster.md lists the events.

    Handlers are called one after the other, in one thread, in the order of the events.
    """
    return registry.on(event)


def broadcast(value: Any) -> int:
    """Send a JSON value to every worker. Returns the number of workers that it was sent to.

    Raises the exceptions of `Worker.send`. A worker that has ended is skipped. QueueFull is raised after the value was
    sent to all other workers.
    """
    return send_to_all(_running().roster.workers(), value)


def fork(environment: Mapping[str, str] | None = None) -> Worker:
    """Add one worker, with these environment variables. They are set before its code runs, and in its successors too.

    In a handler of `exit` or `disconnect` no worker is added, because clusterd replaces the one that leaves. The result
    is its successor, or the worker that leaves if it has none yet.

    Raises ValueError and TypeError for variables that cannot be set, and RuntimeError if no worker can be added now.
    """
    given = None if environment is None else dict(environment)
    leaving = leaving_worker()
    if leaving is None:
        document = _running().master.wait(Operation.FORK, value=given)
    else:
        document = _running().master.wait(Operation.SUCCESSOR, value=leaving.id)
        if document is None:
            return leaving
    return _running().roster.find(read_worker_event(document))


def scale(workers: int) -> None:
    """Set the number of workers, until the next reload. Raises ValueError for an invalid number."""
    _running().master.wait(Operation.SCALE, value=workers)


def reload() -> Reply:
    """Reload the code and the configuration. `await` the reply or call its `result()` for the new generation's number.

    Both raise `clusterd.worker.RequestFailed` with the reason if the reload fails and the old generation serves on.
    """
    return Reply(_running().master.request(Operation.RELOAD))


def disconnect() -> None:
    """Stop: every worker drains, and clusterd ends."""
    _running().master.wait(Operation.STOP)


# ---- for the hooks process itself


def prepare(settings: Mapping[str, Any]) -> None:
    """Mark this process as a hooks process. Called before the hooks are imported."""
    global _settings
    _settings = settings


def begin(master: MasterConnection, roster: Roster) -> None:
    """Make the commands available, because the connection to the master exists."""
    global _self
    _self = _Self(master, roster)


def _known_settings() -> Mapping[str, Any]:
    if _settings is None:
        raise NotInHooks("this process is no hooks process of clusterd, so it has no cluster")
    return _settings


def _running() -> _Self:
    _known_settings()
    if _self is None:
        raise NotInHooks('not while the hooks are imported: do this in a handler; the first is @cluster.on("setup")')
    return _self
