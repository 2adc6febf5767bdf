"""The states of a worker and of a template, and why a worker ends."""

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import TypeVar

_State = TypeVar("_State", bound=Enum)


class IllegalMove(Exception):
    """A process was moved between states that its table of moves does not connect: a defect of what decides."""


def checked_move(who: str, before: _State, after: _State, moves: Mapping[_State, frozenset[_State]]) -> _State:
    """The state `after`. Raises IllegalMove."""
    if after not in moves[before]:
        raise IllegalMove(f"{who}: {before.value} to {after.value}")
    return after


class WorkerState(Enum):
    """Where a worker is in its life; MOVES lists the only ways from one to the next."""

    FORKING = "forking"
    """Asked for; no process has said hello yet."""
    BOOTING = "booting"
    """Its pid is known; it is getting the application ready."""
    READY = "ready"
    """It accepts connections."""
    RETIRED = "retired"
    """It accepts nothing and its connections have moved on, but it may have to take its slot back."""
    DRAINING = "draining"
    """It finishes what it holds and exits."""
    ENDING = "ending"
    """We have killed it; its exit is awaited."""
    GONE = "gone"
    """Reaped, and out of the table."""


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
"""On the way to ready."""


class TemplateState(Enum):
    """Where a template is in its life."""

    LOADING = "loading"
    """It imports the application."""
    LOADED = "loaded"
    """It forks on request."""
    SPARE_COMING = "spare coming"
    """A copy that has been asked for and has not said hello."""
    SPARE = "spare"
    """An idle copy, ready to be promoted."""
    ENDING = "ending"
    """We have killed it."""


TEMPLATE_MOVES: dict[TemplateState, frozenset[TemplateState]] = {
    TemplateState.LOADING: frozenset({TemplateState.LOADED, TemplateState.ENDING}),
    TemplateState.LOADED: frozenset({TemplateState.ENDING}),
    TemplateState.SPARE_COMING: frozenset({TemplateState.SPARE, TemplateState.ENDING}),
    TemplateState.SPARE: frozenset({TemplateState.LOADED, TemplateState.ENDING}),
    TemplateState.ENDING: frozenset(),
}
"""A template that is gone is out of the table: every state leads there."""


class EndReason(StrEnum):
    """Why a worker ended; the `reason` in logs and metrics."""

    ROLLOUT = "rollout"
    """Replaced by a newer generation."""
    WITHDRAWN = "withdrawn"
    """Belonged to a generation that was withdrawn."""
    SCALE = "scale"
    """Its slot was removed."""
    STOP = "stop"
    """clusterd stops."""
    MAX_REQUESTS = "max_requests"
    """Recycled after limits.max_requests."""
    MAX_MEMORY = "max_memory"
    """Recycled above limits.max_memory."""
    REQUEST_TIMEOUT = "request_timeout"
    """Recycled because a thread of it did not answer within timeouts.request."""
    RESTART = "restart"
    """Replaced because somebody asked for it (`clusterctl restart`)."""
    KILLED = "killed"
    """Somebody has sent it a SIGTERM or a SIGKILL (`clusterctl kill`, `worker.kill()`)."""
    BOOT_FAILED = "boot_failed"
    """It said, or its death said, that it could not get ready."""
    BOOT_TIMEOUT = "boot_timeout"
    """Not ready within rollout.boot_timeout; killed by clusterd."""
    HANG = "hang"
    """No progress for timeouts.hang; killed by clusterd."""
    DRAIN_TIMEOUT = "drain_timeout"
    """Still not drained after timeouts.drain; killed by clusterd."""
    MAX_DRAINING = "max_draining"
    """More generations drained at once than rollout.max_draining; ended by clusterd."""
    EXIT = "exit"
    """It exited unasked."""
    SIGNAL = "signal"
    """A signal that clusterd did not send killed it."""
    OOM = "oom"
    """The kernel killed it, probably for want of memory (MemoryMax= of the unit, or the machine's)."""


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
"""Ends that speak against the generation: they withdraw a rollout and drive the backoff."""

RESTARTS = FAILURES | {
    EndReason.MAX_REQUESTS,
    EndReason.MAX_MEMORY,
    EndReason.REQUEST_TIMEOUT,
    EndReason.RESTART,
    EndReason.KILLED,
}
"""Ends after which the same generation is forked again: what `clusterd_worker_restarts_total` counts."""
