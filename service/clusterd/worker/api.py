"""The interface of a worker for its application: its identity, messages, and the request to stop.

The template often imports the application before the fork. Handlers that the application registers there, and a
stop_event that it keeps, therefore work in every worker.
"""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from clusterd.app.signatures import check_handler
from clusterd.log.current_request import REQUEST_ID
from clusterd.records import dataclass
from clusterd.wire.conversation import REQUEST_SECONDS, Conversation, Disconnected, QueueFull, Reply, RequestFailed

__all__ = ["Disconnected", "NotInWorker", "QueueFull", "RequestFailed", "on", "request", "request_id", "send"]

MESSAGE = "message"

Handler = Callable[[Any], Any]
_AnyHandler = TypeVar("_AnyHandler", bound=Handler)


class NotInWorker(RuntimeError):
    """The call needs a worker of clusterd, and this process is not one."""


@dataclass(frozen=True, slots=True)
class _Self:
    """The identity of this worker."""

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
"""Attributes computed at each access. `id` and `generation` are 0 outside a worker, as in a template or a test."""


# ---- for applications


def on(event: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Register the decorated function, plain or async, as a handler of the event "message".

    If there are several handlers, each gets every message, and the reply to a request is what the first one returns.
    Raises TypeError or ValueError for anything else than the name of the event, and TypeError if the function does not
    take one argument.
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
    """Send any JSON value, from any thread. Messages arrive in the order in which they were sent.

    Raises TypeError or ValueError if the value is not JSON or is too large, QueueFull if too many messages wait,
    Disconnected if the master is gone, and NotInWorker outside a worker.
    """
    conversation().send(value)


def request(value: Any, *, timeout: float | None = REQUEST_SECONDS) -> Reply:
    """Send any JSON value, as `send` does, and return the pending reply: `await` it, or call `result()` in a thread.

    Both raise RequestFailed if the other side could not answer, and TimeoutError after `timeout` seconds.
    """
    return conversation().request(value, timeout)


def request_id() -> str | None:
    """Return the identifier of the request that the calling code works on.

    It is known in the thread, task or greenlet that was called for the request, in tasks that it has created, and in
    threads that `asyncio.to_thread` runs for it. None elsewhere, and if the setting `request_ids` is off.
    """
    return REQUEST_ID.get()


# ---- for the worker itself


def begin(slot: int, generation: int) -> None:
    """Make this process a worker."""
    global _self
    _self = _Self(slot, generation, Conversation())


def end() -> None:
    """Make this process no longer a worker. Called in a child that the application has forked."""
    global _self
    _self = None


def conversation() -> Conversation:
    """Return the conversation with the master. Raises NotInWorker."""
    if _self is None:
        raise NotInWorker("this process is no worker of clusterd: it cannot send messages")
    return _self.conversation
