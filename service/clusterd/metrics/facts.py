"""What the master has to say about the cluster for its metrics, beside the scoreboard and /proc."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from clusterd.metrics.row import Row


class Phase(StrEnum):
    """Where a worker is in its life."""

    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One living process. A slot may have several: a successor that boots, predecessors that drain."""

    slot: int
    generation: int
    pid: int
    phase: Phase
    row: Row


@dataclass(frozen=True, slots=True)
class HooksFacts:
    """The application's hooks, and their process. Counts are since the start."""

    module: str
    pid: int | None
    generation: int
    state: str
    is_told: bool
    """Whether there is a process that is told what happens."""
    waiting: int
    """Events and messages that it is still to be told, and what it deals with."""
    busy_seconds: float
    """How long handlers have been dealing with one and the same thing; 0 where they deal with none."""
    restarts: int
    events_dropped: int
    """Because too many waited."""
    messages_dropped: int
    """Likewise."""
    cut: int
    """Dealt with by a process when it ended."""
    busy_with: str | None = None
    """What handlers have been dealing with for `busy_seconds`."""
    failure: str | None = None
    """How the last process died, where none is told since."""
    retry_seconds: float | None = None
    """Until the next one is started, likewise."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The cluster at one moment. Times are seconds since 1970."""

    version: str
    pid: int
    """The master's."""
    started_at: float
    """When the master started."""
    generation: int
    """The one that serves."""
    slots: tuple[int, ...]
    """Those that are to have a worker, whether they have one or not."""
    workers: tuple[WorkerFacts, ...]
    restarts: Mapping[tuple[int, str], int]
    """How often a slot's process was replaced, by slot and reason."""
    restart_reasons: tuple[str, ...]
    """All reasons there are, so that every series exists before its first restart."""
    rollouts: Mapping[str, int]
    """How many ended, by result; with a zero for a result there has not been."""
    rollout_under_way: bool
    reload_successful: bool
    """Whether the last reload succeeded; True when there was none after the start."""
    reloaded_at: float
    """When the last reload that succeeded ended, or the start."""
    strays_reaped: int
    """Orphans of the application that ended as children of the master."""
    messages_dropped: int
    """Messages from workers that were no longer the ones they said they were."""
    hooks: HooksFacts | None = None
    """None where there are none."""
