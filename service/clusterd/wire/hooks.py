"""The content of the conversation between the master and a hooks process, as JSON.

The master sends one event at a time, and the next one when that was handled:

    {"name": "exit", "serial": 7, "slot": 2, "generation": 3, "state": {...}, "arguments": [null, "SIGKILL"]}

A snapshot of the workers is one message for each, and one at its end: "setup" for a process that begins, else "known":

    {"name": "worker", "serial": 7, "slot": 2, "generation": 3, "state": {...}, "arguments": []}
    {"name": "setup"}

The hooks process asks for operations by requests. The reply is an outcome:

    {"operation": "kill", "serial": 7, "value": 15}
    {"value": null}, or {"failure": "RuntimeError", "reason": "the cluster is stopping"}
"""

from dataclasses import asdict
from enum import StrEnum
from typing import Any

from clusterd.records import dataclass
from clusterd.wire.conversation import Disconnected, QueueFull, RequestFailed

SETUP = "setup"
WORKER = "worker"
"""The state of a worker in a snapshot. No handler is called for it."""
KNOWN = "known"
"""The end of a snapshot for a process that has begun before."""
MESSAGE = "message"
FORK = "fork"
EXIT = "exit"
DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class State:
    """The state of a worker."""

    pid: int | None = None
    is_connected: bool = True
    is_listening: bool = False
    is_dead: bool = False
    left_when_asked: bool | None = None
    """Whether it left because it was asked to. None as long as it is running."""
    cause: str | None = None
    """What it died of. None as long as it is running, and if it left with nothing in hand."""
    lost: int = 0
    """How many requests died with it."""
    requests: tuple[dict[str, Any], ...] = ()
    """The oldest requests that it had in hand when it died: `method`, `target`, `age`, `peer` and `state`."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """An event of a worker, with its state after it, or a message from its application."""

    name: str
    serial: int
    slot: int
    generation: int
    state: State
    arguments: tuple[Any, ...] = ()
    """The arguments of the handlers after the worker."""
    reason: str = ""
    """Why a worker ended, with the word that the metrics use. Empty before."""
    how: str = ""
    """The reason as a sentence."""

    def fields(self) -> dict[str, object]:
        """The worker, as the fields of a log line or of an event."""
        return {"slot": self.slot, "generation": self.generation, "pid": self.state.pid}


class Operation(StrEnum):
    """The operations that a hooks process may ask for."""

    SEND = "send"
    REQUEST = "request"
    KILL = "kill"
    LEAVE = "leave"
    DEBUG = "debug"
    FORK = "fork"
    SUCCESSOR = "successor"
    SCALE = "scale"
    RELOAD = "reload"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """`serial` is a worker's, or 0 if the operation is about no worker."""

    operation: Operation
    serial: int = 0
    value: Any = None


def write_worker_event(worker_event: WorkerEvent) -> dict[str, Any]:
    """Return the event as JSON."""
    return asdict(worker_event)


def read_worker_event(document: dict[str, Any]) -> WorkerEvent:
    """Parse what `write_worker_event` wrote in another process of the same version of clusterd."""
    of_state = document["state"]
    state = State(**{**of_state, "requests": tuple(of_state["requests"])})
    return WorkerEvent(**{**document, "state": state, "arguments": tuple(document["arguments"])})


def write_request(request: OperationRequest) -> dict[str, Any]:
    """Return the request as JSON."""
    return asdict(request)


def read_request(document: Any) -> OperationRequest:
    """Parse a request of the hooks process, which runs the application's code. Raises ValueError for anything else."""
    match document:
        case {"operation": str(operation), "serial": int(serial), "value": value}:
            return OperationRequest(Operation(operation), serial, value)
        case _:
            raise ValueError("not a request for an operation")


# ---- outcomes

_FAILURES: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (Disconnected, QueueFull, RequestFailed, RuntimeError, TimeoutError, TypeError, ValueError)
}


def succeeded(value: Any) -> dict[str, Any]:
    """Return the outcome of an operation that was carried out."""
    return {"value": value}


def failed(error: BaseException) -> dict[str, Any]:
    """Return the outcome of an operation that failed."""
    known = next((name for name, kind in _FAILURES.items() if isinstance(error, kind)), RuntimeError.__name__)
    return {"failure": known, "reason": str(error)}


def outcome(document: dict[str, Any]) -> Any:
    """Return the value of an outcome. Raises the exception of a failed operation."""
    if "failure" in document:
        raise _FAILURES[document["failure"]](document["reason"])
    return document["value"]
