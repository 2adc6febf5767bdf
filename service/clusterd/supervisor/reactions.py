"""Tables of what each event does to a process in each of its states; used for workers and for templates."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from clusterd.supervisor.events import Event
from clusterd.supervisor.model.cluster import ClusterState

_State = TypeVar("_State", bound=Enum)

Reaction = Callable[[ClusterState, Any, Any], None]
"""It is given the cluster, the worker or template, and the event."""


def ignored(_: ClusterState, __: object, ___: Event) -> None:
    """The event comes too late or too early, and changes nothing."""


def reactions(
    states: tuple[_State, ...], rows: Mapping[type[Event], tuple[Reaction, ...]]
) -> dict[type[Event], dict[_State, Reaction]]:
    """The table of `rows`, each of which has one reaction for each of `states`. Raises ValueError otherwise."""
    return {event: dict(zip(states, row, strict=True)) for event, row in rows.items()}
