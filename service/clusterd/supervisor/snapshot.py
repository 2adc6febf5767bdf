"""The state of the supervisor as a value that outlives the program: what the next one of the master goes on with.

Times in it are of CLOCK_MONOTONIC, which all processes share until the machine is started again.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from clusterd.supervisor import actions
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.plain import PlainError, from_plain, to_plain
from clusterd.supervisor.supervisor import Supervisor

VERSION = 1
"""Changes when a field changes its meaning. A new field has a default, with which an older snapshot is read."""

_OF_ONE_STEP = frozenset({"now", "actions", "wake_at"})
_FIELDS = tuple(each.name for each in fields(ClusterState) if each.name not in _OF_ONE_STEP)


class SnapshotError(Exception):
    """The snapshot is damaged or of another version. The text says which in one line."""


_ACTIONS = {
    each.__name__: each
    for each in vars(actions).values()
    if isinstance(each, type) and issubclass(each, actions.Action)
}


def snapshot(cluster: ClusterState, pending: Sequence[actions.Action] = ()) -> dict[str, Any]:
    """Return the state between two steps as JSON, with the actions that may not be carried out yet."""
    found: dict[str, Any] = to_plain(snapshot_of_values(cluster, pending))
    return found


def snapshot_of_values(cluster: ClusterState, pending: Sequence[actions.Action] = ()) -> dict[str, Any]:
    """The same, as values that `to_plain` makes JSON of. They change with the cluster."""
    return {
        "version": VERSION,
        "cluster": {name: getattr(cluster, name) for name in _FIELDS},
        "pending": [[type(each).__name__, each] for each in pending],
    }


def restore(document: Any) -> Supervisor:
    """Return a supervisor in that state. Post a Tick to it: it then knows when it needs the next one.

    Raises SnapshotError.
    """
    version = document.get("version") if isinstance(document, dict) else None
    if version != VERSION or type(version) is not int:
        raise SnapshotError(f"the state is of version {version!r:.20}, and this clusterd reads version {VERSION}")
    try:
        return Supervisor(from_plain(ClusterState, document.get("cluster")))
    except PlainError as error:
        raise SnapshotError(f"the state cannot be read: {error}") from None


def pending_in(document: dict[str, Any]) -> list[actions.Action]:
    """Return the actions in a snapshot that may not be carried out yet. Raises SnapshotError."""
    try:
        return [from_plain(_ACTIONS[name], plain) for name, plain in document.get("pending", ())]
    except (PlainError, KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the actions that were pending cannot be read: {error}") from None
