"""What a hooks module may use: handlers for what becomes of the workers, and the same commands that `Cluster` has.

A module may be imported where no hooks run, by its tests or by the application: what it registers there is never
called.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from clusterd.hooks.handle import Worker
from clusterd.hooks.handle import broadcast as send_to_all
from clusterd.hooks.handlers import CLUSTER_EVENTS, Registry
from clusterd.hooks.master_connection import MasterConnection
from clusterd.hooks.roster import Roster
from clusterd.wire.conversation import Reply
from clusterd.wire.hooks import Order, read_worker_event

_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])


class NotInHooks(RuntimeError):
    """Only the hooks process of a clusterd has a cluster to speak of."""


@dataclass(frozen=True, slots=True)
class _Self:
    """What a hooks process has, once it has imported its module."""

    master: MasterConnection
    roster: Roster


registry = Registry(CLUSTER_EVENTS)
_settings: Mapping[str, Any] | None = None
"""In a hooks process, from before it imports its module."""
_self: _Self | None = None

FACTS: dict[str, Callable[[], Any]] = {
    "workers": lambda: {} if _self is None else _self.roster.workers(),
    "settings": lambda: dict(_known_settings()),
    "is_hooks": lambda: _settings is not None,
}
"""What is asked anew each time."""


# ---- for hooks modules


def on(event: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Register the decorated function, plain or async, for an event: docs/node-cluster.md has them.

    Handlers are called one after the other, in one thread, in the order in which things happen.
    """
    return registry.on(event)


def broadcast(value: Any) -> int:
    """Send any JSON value to every worker; to how many.

    Raises as `Worker.send` does, save for workers that are gone; QueueFull when the others have got it.
    """
    return send_to_all(_running().roster.workers(), value)


def fork(environment: Mapping[str, str] | None = None) -> Worker:
    """One worker more, with these variables set before its code runs, and in whoever takes its place later.

    Raises ValueError and TypeError for what cannot be set.
    """
    given = None if environment is None else dict(environment)
    document = _running().master.wait(Order.FORK, value=given)
    return _running().roster.find(read_worker_event(document))


def scale(workers: int) -> None:
    """Have so many workers, until the next reload."""
    _running().master.wait(Order.SCALE, value=workers)


def reload() -> Reply:
    """Roll the code and the configuration out; `await` it, or call its `result()`, for the generation that serves then.

    Either raises `clusterd.worker.RequestFailed` with the reason where the old generation serves on.
    """
    return Reply(_running().master.order(Order.RELOAD))


def disconnect() -> None:
    """Stop: every worker drains, and clusterd ends."""
    _running().master.wait(Order.STOP)


# ---- for the hooks process itself


def prepare(settings: Mapping[str, Any]) -> None:
    """Make this process one that has hooks, and will be told of the cluster when they are imported."""
    global _settings
    _settings = settings


def begin(master: MasterConnection, roster: Roster) -> None:
    """There is somebody to give orders to."""
    global _self
    _self = _Self(master, roster)


def _known_settings() -> Mapping[str, Any]:
    if _settings is None:
        raise NotInHooks("this process is no hooks process of clusterd: there is no cluster to speak of")
    return _settings


def _running() -> _Self:
    _known_settings()
    if _self is None:
        raise NotInHooks('not while the hooks are imported: do this in a handler; the first is @cluster.on("setup")')
    return _self
