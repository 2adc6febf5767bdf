"""What an ASGI application is, as a server sees it (https://asgi.readthedocs.io/en/latest/specs/main.html)."""

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class ClientDisconnected(OSError):
    """Raised by `send` when nobody reads any more (ASGI's spec_version 2.4)."""
