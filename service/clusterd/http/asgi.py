"""The ASGI adapter (https://asgi.readthedocs.io): has the application called in a task on the loop."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from clusterd.http.asgi_call import AsgiApplication, AsgiCall
from clusterd.http.asgi_scope import ScopeMaker
from clusterd.http.connection import Connection
from clusterd.http.inflow import Inflow
from clusterd.http.lifespan import Lifespan
from clusterd.http.ports import Log
from clusterd.http.response import Stamp
from clusterd.http.settings import HttpSettings


class AsgiAdapter:
    """Turns requests into calls."""

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
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def streams(self) -> bool:
        """The application takes the body as it comes."""
        return True

    @property
    def running(self) -> int:
        """Calls under way: an application may go on after its response, with background tasks."""
        return len(self._tasks)

    def new_body(self, _: int, /) -> Inflow:
        """Held in memory, and no more of it than the application has not taken yet."""
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
        call = AsgiCall(connection, self._stamp, self._log)
        connection.call = call
        scope = self._scopes.http(common, request.head)
        task = _start(call.run(self._application, scope), self._loop)
        if not task.done():
            call.task = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def startup(self) -> None:
        """The application's lifespan begins. Raises StartupFailed."""
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """The application's lifespan ends."""
        await self._lifespan.shutdown()

    def tick(self, now: float) -> None:
        """Nothing waits here."""


if sys.version_info >= (3, 12):

    def _start(call: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        # Begun at once: most calls never wait, and are over before the loop would have come to them.
        return asyncio.Task(call, loop=loop, eager_start=True)

else:

    def _start(call: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        return asyncio.Task(call, loop=loop)
