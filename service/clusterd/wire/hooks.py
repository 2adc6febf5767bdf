"""What the master and a hooks process say to each other in their conversation, all of it as JSON.

The master tells of one thing at a time, and of the next when that was dealt with:

    {"name": "setup"}
    {"name": "exit", "serial": 7, "slot": 2, "generation": 3, "state": {...}, "arguments": [null, "SIGKILL"]}

The hooks process gives orders, as requests; the reply is an outcome:

    {"order": "kill", "serial": 7, "value": 15}
    {"value": null}, or {"failure": "RuntimeError", "reason": "the cluster is stopping"}
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from clusterd.wire.conversation import Disconnected, QueueFull, RequestFailed

SETUP = "setup"
MESSAGE = "message"
FORK = "fork"
EXIT = "exit"


@dataclass(frozen=True, slots=True)
class State:
    """How a worker is."""

    pid: int | None = None
    is_connected: bool = True
    is_listening: bool = False
    is_dead: bool = False
    left_when_asked: bool | None = None
    """Whether it left because it was to; None while it is there."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something has become of a worker, which is like `state` since, or its application has said something."""

    name: str
    serial: int
    slot: int
    generation: int
    state: State
    arguments: tuple[Any, ...] = ()
    """Of the handlers, after the worker."""
    is_silent: bool = False
    """It is to be known, and no handler is called for it."""
    reason: str = ""
    """Why a worker ended, as in the metrics; empty before."""
    how: str = ""
    """The same in words."""


class Order(StrEnum):
    """What a hooks process may ask for."""

    SEND = "send"
    REQUEST = "request"
    KILL = "kill"
    LEAVE = "leave"
    DEBUG = "debug"
    FORK = "fork"
    SCALE = "scale"
    RELOAD = "reload"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order; `serial` is a worker's, and 0 where it is about none."""

    order: Order
    serial: int = 0
    value: Any = None


def write_worker_event(worker_event: WorkerEvent) -> dict[str, Any]:
    """As JSON."""
    return asdict(worker_event)


def read_worker_event(document: dict[str, Any]) -> WorkerEvent:
    """What `write_worker_event` wrote, in another process of the same version of clusterd."""
    state, arguments = State(**document["state"]), tuple(document["arguments"])
    return WorkerEvent(**{**document, "state": state, "arguments": arguments})


def write_order(ordered: Ordered) -> dict[str, Any]:
    """As JSON."""
    return asdict(ordered)


def read_order(document: Any) -> Ordered:
    """The order in `document`, which the application's process has sent. Raises ValueError for anything else."""
    match document:
        case {"order": str(order), "serial": int(serial), "value": value}:
            return Ordered(Order(order), serial, value)
        case _:
            raise ValueError("not an order")


# ---- outcomes

_FAILURES: dict[str, type[Exception]] = {
    each.__name__: each
    for each in (Disconnected, QueueFull, RequestFailed, RuntimeError, TimeoutError, TypeError, ValueError)
}


def succeeded(value: Any) -> dict[str, Any]:
    """An order was carried out."""
    return {"value": value}


def failed(error: BaseException) -> dict[str, Any]:
    """An order was not carried out."""
    known = next((name for name, kind in _FAILURES.items() if isinstance(error, kind)), RuntimeError.__name__)
    return {"failure": known, "reason": str(error)}


def outcome(document: dict[str, Any]) -> Any:
    """The value. Raises what was raised instead."""
    if "failure" in document:
        raise _FAILURES[document["failure"]](document["reason"])
    return document["value"]
