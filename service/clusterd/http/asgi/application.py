"""The types of an ASGI application (https://asgi.readthedocs.io/en/latest/specs/main.html)."""

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class ClientDisconnected(OSError):
    """Raised by `send` after the client has gone, as ASGI 2.4 says. Earlier versions allow it."""
