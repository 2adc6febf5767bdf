"""The state of the supervisor as a value that outlives the program: what the next one of the master goes on with.

Times in it are of CLOCK_MONOTONIC, which all processes share until the machine is started again.
"""

from typing import Any

from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.plain import PlainError, from_plain, to_plain
from clusterd.supervisor.supervisor import Supervisor

VERSION = 1
"""Changes when a field changes its meaning. A new field has a default, with which an older snapshot is read."""

_OF_ONE_STEP = frozenset({"now", "actions", "wake_at"})


class SnapshotError(Exception):
    """The snapshot is damaged or of another version. The text says which in one line."""


def snapshot(cluster: ClusterState) -> dict[str, Any]:
    """Return the state between two steps as JSON."""
    return {"version": VERSION, "cluster": to_plain(cluster, leave_out=_OF_ONE_STEP)}


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
