"""The adapter class of ASGI (https://asgi.readthedocs.io)."""

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from clusterd.http.asgi.application import AsgiApplication
from clusterd.http.asgi.call import AsgiCall
from clusterd.http.asgi.inflow import Inflow
from clusterd.http.asgi.lifespan import Lifespan
from clusterd.http.asgi.scope import ScopeMaker
from clusterd.http.asgi.websocket.call import WebSocketCall
from clusterd.http.asgi.websocket.handshake import handshake_of, wants_websocket
from clusterd.http.asgi.websocket.trim import Trim
from clusterd.http.connections.connection import Connection
from clusterd.http.messages.head import Head
from clusterd.http.messages.quota import Quota
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log
from clusterd.http.settings import HttpSettings
from clusterd.log.current_request import REQUEST_ID

# asyncio's class itself, because each request would pay for a function around it.
_start: Callable[..., asyncio.Task[None]]
_IS_EAGER: Final = sys.version_info >= (3, 12)
if sys.version_info >= (3, 12):
    # Eager tasks begin at once. Most calls never wait, and are over before the loop would have started them.
    _start = partial(asyncio.Task, eager_start=True)
else:
    _start = asyncio.Task


class AsgiAdapter:
    """Turns requests into calls of an ASGI application."""

    def __init__(
        self,
        application: AsgiApplication,
        settings: HttpSettings,
        log: Log,
        stamp: Stamp,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._application = application
        self._log = log
        self._stamp = stamp
        self._loop = loop
        self._lifespan = Lifespan(application, log)
        self._scopes = ScopeMaker(settings.root_path, self._lifespan.state)
        self._limits = settings.limits
        self._quota = Quota(settings.limits.websocket_memory)
        self._trim = Trim(self._quota)
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = 0
        """Number of calls that are being started. An eager one may close its connection before it is a task."""
        self._context = copy_context()

    @property
    def streams(self) -> bool:
        """True: the application takes the body as it arrives."""
        return True

    @property
    def running(self) -> int:
        """Number of calls under way. An application may go on after its response, with background tasks."""
        return len(self._tasks) + self._starting

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of these calls."""
        return list(self._tasks)

    def new_body(self, _: int, /) -> Inflow:
        """Make a body that keeps in memory only what the application has not taken yet."""
        return Inflow()

    def answer(self, connection: Connection) -> None:
        """Call the application for the request of `connection`."""
        request = connection.request
        assert request is not None
        common = connection.kept
        if common is None:
            origin = connection.origin
            common = self._scopes.of_connection(origin.peer, origin.local, origin.scheme)
            if not connection.behind_proxy:
                connection.kept = common
        head = request.head
        call: AsgiCall | WebSocketCall
        if head.upgrades and wants_websocket(head):
            call, scope = self._websocket(connection, common, head)
        else:
            call = AsgiCall(connection, self._stamp, self._log)
            scope = self._scopes.http(common, head)
        connection.call = call
        if _IS_EAGER:
            request.waited = 0.0
        # The context of the worker, and not that of whoever calls this, which may be another request's task.
        context = self._context.copy()
        if request.id:
            scope["state"]["request_id"] = request.id
            context.run(REQUEST_ID.set, request.id)
        self._starting += 1
        task = _start(call.run(self._application, scope), loop=self._loop, context=context)
        self._starting -= 1
        if not task.done():
            call.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _websocket(
        self, connection: Connection, of_connection: dict[str, Any], head: Head
    ) -> tuple[WebSocketCall, dict[str, Any]]:
        """Return the call for a WebSocket and its scope. Raises Refusal."""
        handshake = handshake_of(head, self._limits)
        call = WebSocketCall(connection, handshake, self._limits.body, self._quota, self._stamp, self._log)
        return call, self._scopes.websocket(of_connection, head, handshake.subprotocols)

    async def startup(self) -> None:
        """Begin the application's lifespan. Raises StartupFailed."""
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """End the application's lifespan."""
        await self._lifespan.shutdown()

    def tick(self, now: float) -> None:  # noqa: ARG002 - named as by `Adapter`
        """Give the memory of dropped messages back. This adapter has no queue."""
        self._trim.tick()
