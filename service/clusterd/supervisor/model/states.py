"""The states of a worker and of a template, and why a worker ends."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TypeVar

_State = TypeVar("_State", bound=Enum)


class IllegalMove(Exception):
    """A process was moved between states that its table of moves does not connect. This is a defect of clusterd."""


def checked_move(who: str, before: _State, after: _State, moves: Mapping[_State, frozenset[_State]]) -> _State:
    """Return the state `after`. Raises IllegalMove, with the name `who`, if `moves` does not lead to it."""
    if after not in moves[before]:
        raise IllegalMove(f"{who}: {before.value} to {after.value}")
    return after


class WorkerState(Enum):
    """The state of a worker. MOVES lists the possible changes."""

    FORKING = "forking"
    """The fork was requested, and the process has not sent Hello yet."""
    BOOTING = "booting"
    """Its pid is known. It prepares the application."""
    READY = "ready"
    """It accepts connections."""
    RETIRED = "retired"
    """It accepts nothing and has handed over its connections, but may return to its slot if the rollout fails."""
    DRAINING = "draining"
    """It answers its in-flight requests, hands over its connections, and exits."""
    ENDING = "ending"
    """clusterd has killed it, and it is not reaped yet."""
    GONE = "gone"
    """It is reaped and has left the table."""


MOVES: dict[WorkerState, frozenset[WorkerState]] = {
    WorkerState.FORKING: frozenset({WorkerState.BOOTING, WorkerState.ENDING, WorkerState.GONE}),
    WorkerState.BOOTING: frozenset({WorkerState.READY, WorkerState.ENDING, WorkerState.GONE}),
    WorkerState.READY: frozenset({WorkerState.RETIRED, WorkerState.DRAINING, WorkerState.ENDING, WorkerState.GONE}),
    WorkerState.RETIRED: frozenset({WorkerState.READY, WorkerState.DRAINING, WorkerState.ENDING, WorkerState.GONE}),
    WorkerState.DRAINING: frozenset({WorkerState.ENDING, WorkerState.GONE}),
    WorkerState.ENDING: frozenset({WorkerState.GONE}),
    WorkerState.GONE: frozenset(),
}

COMING = frozenset({WorkerState.FORKING, WorkerState.BOOTING})
"""The states before READY."""


class TemplateState(Enum):
    """The state of a template or spare."""

    LOADING = "loading"
    """It imports the application."""
    LOADED = "loaded"
    """It forks workers on request."""
    SPARE_COMING = "spare coming"
    """A spare that was requested and has not sent Hello yet."""
    SPARE = "spare"
    """An idle copy of the template, ready to be promoted."""
    ENDING = "ending"
    """clusterd has killed it, and it is not reaped yet."""


TEMPLATE_MOVES: dict[TemplateState, frozenset[TemplateState]] = {
    TemplateState.LOADING: frozenset({TemplateState.LOADED, TemplateState.ENDING}),
    TemplateState.LOADED: frozenset({TemplateState.ENDING}),
    TemplateState.SPARE_COMING: frozenset({TemplateState.SPARE, TemplateState.ENDING}),
    TemplateState.SPARE: frozenset({TemplateState.LOADED, TemplateState.ENDING}),
    TemplateState.ENDING: frozenset(),
}
"""The possible changes. There is no state for a dead template: it leaves the table, from any state."""


class EndReason(StrEnum):
    """Why a worker ended: the `reason` in logs and metrics."""

    ROLLOUT = "rollout"
    """It was replaced by a worker of a newer generation."""
    WITHDRAWN = "withdrawn"
    """It belonged to a generation that was withdrawn."""
    SCALE = "scale"
    """Its slot was removed."""
    STOP = "stop"
    """clusterd stops."""
    MAX_REQUESTS = "max_requests"
    """It was replaced after limits.max_requests requests."""
    MAX_MEMORY = "max_memory"
    """It was replaced because it used more than limits.max_memory."""
    REQUEST_TIMEOUT = "request_timeout"
    """It was replaced because one of its threads did not answer within timeouts.request."""
    RESTART = "restart"
    """It was replaced on request (`clusterctl restart`)."""
    KILLED = "killed"
    """An operator or a program sent it a signal that ends it (`clusterctl kill`, `worker.kill()`)."""
    BOOT_FAILED = "boot_failed"
    """It reported that it could not start, or died before it was ready."""
    BOOT_TIMEOUT = "boot_timeout"
    """It was not ready within rollout.boot_timeout, so clusterd killed it."""
    HANG = "hang"
    """It made no progress for timeouts.hang, so clusterd killed it."""
    DRAIN_TIMEOUT = "drain_timeout"
    """It was not drained after timeouts.drain, so clusterd killed it."""
    MAX_DRAINING = "max_draining"
    """More generations than rollout.max_draining drained at once, so clusterd ended it."""
    EXIT = "exit"
    """It exited, and clusterd had not asked for that."""
    SIGNAL = "signal"
    """A signal that clusterd did not send killed it."""
    OOM = "oom"
    """The kernel killed it, probably because memory ran out (MemoryMax= of the unit, or the machine's)."""


FAILURES = frozenset(
    {
        EndReason.BOOT_FAILED,
        EndReason.BOOT_TIMEOUT,
        EndReason.HANG,
        EndReason.EXIT,
        EndReason.SIGNAL,
        EndReason.OOM,
    }
)
"""The ends that count as a failure of the generation: they withdraw a rollout and cause backoff."""

RESTARTS = FAILURES | {
    EndReason.MAX_REQUESTS,
    EndReason.MAX_MEMORY,
    EndReason.REQUEST_TIMEOUT,
    EndReason.RESTART,
    EndReason.KILLED,
}
"""The ends after which a worker of the same generation is forked."""

ASKED_FOR = frozenset(
    {
        EndReason.ROLLOUT,
        EndReason.SCALE,
        EndReason.MAX_REQUESTS,
        EndReason.MAX_MEMORY,
        EndReason.RESTART,
        EndReason.KILLED,
        EndReason.DRAIN_TIMEOUT,
        EndReason.MAX_DRAINING,
    }
)
"""The ends of workers that were to leave, by an operator's order or by a limit of the configuration."""

COUNTED = RESTARTS | ASKED_FOR
"""The ends that `clusterd_worker_restarts_total` counts. Of a stop and of a withdrawn generation it counts none."""
