"""The types of an ASGI application (https://asgi.readthedocs.io/en/latest/specs/main.html)."""

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class ClientDisconnected(OSError):
    """Raised by `send` after the client has gone, as ASGI 2.4 says. Earlier versions allow it."""


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` only says that the client has gone: a ClientDisconnected, a group of them, or raised from one.

    A framework may send from a task group, or explain what it got.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, ClientDisconnected) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        elif each.__cause__ is not None:
            waiting.append(each.__cause__)
        else:
            return False
    return True
