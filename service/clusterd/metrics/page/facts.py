"""The facts about the cluster that the master adds to the metrics, beside the scoreboard and /proc."""

from collections.abc import Mapping
from enum import StrEnum

from clusterd.metrics.shared.row import Row
from clusterd.records import dataclass


class Phase(StrEnum):
    """The phase of a worker."""

    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One living worker. A slot may have several: a successor that boots and predecessors that drain."""

    slot: int
    generation: int
    pid: int
    phase: Phase
    row: Row


@dataclass(frozen=True, slots=True)
class HooksFacts:
    """The application's hooks and their process. Counts are since the start of the master."""

    module: str
    pid: int | None
    generation: int
    state: str
    is_told: bool
    """Whether a process receives the events."""
    waiting: int
    """Events and messages in the queue, and the one being handled."""
    busy_seconds: float
    """How long handlers have been handling the current event or message; 0 if there is none."""
    restarts: int
    events_dropped: int
    """Events dropped because the queue was full."""
    messages_dropped: int
    """Messages dropped because the queue was full."""
    cut: int
    """Events and messages that a process was handling when it ended."""
    busy_with: str | None = None
    """The event or message that has been handled for `busy_seconds`."""
    failure: str | None = None
    """How the last process died. None if a process receives events again."""
    retry_seconds: float | None = None
    """Seconds until the next process is started. None if a process receives events again."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The cluster at one moment. Times are seconds since 1970."""

    version: str
    pid: int
    """PID of the master."""
    started_at: float
    """When the master started."""
    generation: int
    """The generation that is being served."""
    slots: tuple[int, ...]
    """The slots that should have a worker, also those that have none at the moment."""
    workers: tuple[WorkerFacts, ...]
    workers_min: int
    """The least number of workers that clusterd itself would choose. A fixed number is both."""
    workers_max: int
    is_elastic: bool
    """Whether clusterd decides how many workers there are now."""
    is_in_rotation: bool
    """Whether load balancers are to send requests."""
    scalings: Mapping[tuple[str, str], int]
    """How often the number of workers has changed, by direction and reason; 0 for those that have not occurred."""
    restarts: Mapping[tuple[int, str], int]
    """How often the worker of a slot was replaced, by slot and reason."""
    restart_reasons: Mapping[str, bool]
    """All possible reasons, so that every series exists before its first restart, and whether each was asked for."""
    lost: Mapping[tuple[int, str], int]
    """How many requests have died with a worker of a slot, by slot and reason."""
    loss_reasons: tuple[str, ...]
    """All possible reasons."""
    rollouts: Mapping[str, int]
    """How many rollouts ended, by result; 0 for a result that has not occurred."""
    rollout_under_way: bool
    reload_successful: bool
    """Whether the last reload succeeded. True if there was none since the start."""
    reloaded_at: float
    """When the last successful reload, or else the start, was complete."""
    orphans_reaped: int
    """Orphans of the application that the master has reaped."""
    messages_dropped: int
    """Messages dropped because their sender was not the owner of the channel."""
    refused_connections: int
    """Connections that the master has closed unanswered, because no worker was left to serve them."""
    hooks: HooksFacts | None = None
    """None if no hooks are configured."""
