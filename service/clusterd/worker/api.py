"""What an application may use of its worker: who it is, messages, and when to stop.

An application is often imported in the template, before the fork: handlers that it registers there, and the event that
it keeps, are those of every worker.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from clusterd.app.signatures import check_handler
from clusterd.wire.conversation import REQUEST_SECONDS, Conversation, Disconnected, QueueFull, Reply, RequestFailed

__all__ = ["Disconnected", "NotInWorker", "QueueFull", "RequestFailed", "on", "request", "send"]

MESSAGE = "message"

Handler = Callable[[Any], Any]
_AnyHandler = TypeVar("_AnyHandler", bound=Handler)


class NotInWorker(RuntimeError):
    """Only a worker of clusterd has somebody to talk to."""


@dataclass(frozen=True, slots=True)
class _Self:
    """Which worker this process is."""

    slot: int
    generation: int
    conversation: Conversation


handlers: list[Handler] = []
stop_event = threading.Event()
_self: _Self | None = None

FACTS: dict[str, Callable[[], int | bool]] = {
    "id": lambda: 0 if _self is None else _self.slot,
    "pid": os.getpid,
    "generation": lambda: 0 if _self is None else _self.generation,
    "should_stop": stop_event.is_set,
    "is_worker": lambda: _self is not None,
}
"""What is asked anew each time. `id` and `generation` are 0 where there is no worker: in a template, or in a test."""


# ---- for applications


def on(event: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Register the decorated function, plain or async, for each "message" that this worker is sent.

    With several, each gets every message, and the reply to a request is what the first one returns.
    """
    if callable(event):
        raise TypeError(f'on is called with the name of an event: @worker.on("{MESSAGE}")')
    if event != MESSAGE:
        raise ValueError(f'there is no event {event!r} in a worker; there is "{MESSAGE}"')

    def register(handler: _AnyHandler) -> _AnyHandler:
        check_handler(handler, event, (MESSAGE,))
        handlers.append(handler)
        return handler

    return register


def send(value: Any) -> None:
    """Send any JSON value, from any thread; it arrives in the order it was sent in.

    Raises TypeError or ValueError for what is none or is too large, QueueFull when too many messages wait, Disconnected
    when clusterd is gone, and NotInWorker.
    """
    conversation().send(value)


def request(value: Any, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
    """Send any JSON value, as `send` does, and get the reply: by `await`, or in a thread by its `result()`.

    Either raises RequestFailed when the other side did not answer, and TimeoutError after `timeout` seconds.
    """
    return conversation().request(value, timeout)


# ---- for the worker itself


def begin(slot: int, generation: int) -> None:
    """Make this process a worker."""
    global _self
    _self = _Self(slot, generation, Conversation())


def end() -> None:
    """Make this process none any more: a child that the application has forked."""
    global _self
    _self = None


def conversation() -> Conversation:
    """With the master. Raises NotInWorker."""
    if _self is None:
        raise NotInWorker("this process is no worker of clusterd: nobody would hear it")
    return _self.conversation
