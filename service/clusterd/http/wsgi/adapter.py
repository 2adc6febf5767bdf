"""The adapter class of WSGI (PEP 3333)."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from clusterd.http.connections.connection import Connection
from clusterd.http.messages.refusal import Refusal
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log, RefusedFor
from clusterd.http.settings import HttpSettings
from clusterd.http.wsgi.body import Body
from clusterd.http.wsgi.environ import EnvironMaker
from clusterd.http.wsgi.exchange import Service, WsgiApplication
from clusterd.http.wsgi.loop_call import LoopCall
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.runner import JobRunners
from clusterd.http.wsgi.thread_call import ThreadCall

__all__ = ["WsgiAdapter", "WsgiApplication"]


class WsgiAdapter:
    """Turns requests into calls of a WSGI application."""

    def __init__(
        self,
        application: WsgiApplication,
        settings: HttpSettings,
        log: Log,
        stamp: Stamp,
        mailbox: Mailbox,
        pool: JobRunners | None,
        on_overdue: Callable[[str, Any], None],
    ) -> None:
        environs = EnvironMaker(settings.root_path, 0 if pool is None else pool.count)
        self._service = Service(application, environs, stamp, mailbox, log, on_overdue)
        self._pool = pool
        self._queue_timeout = settings.timeouts.queue

    @property
    def streams(self) -> bool:
        """False: the call begins when the body is complete, so that a slow upload does not occupy a thread."""
        return False

    def new_body(self, expected: int, /) -> Body:
        """Make a body, in memory or, if it is long, in a file."""
        return Body(expected)

    def answer(self, connection: Connection) -> None:
        """Call the application for the request of `connection`, or refuse it if the queue is full."""
        if self._pool is None:
            loop_call = LoopCall(self._service, connection)
            connection.call = loop_call
            loop_call.run()
            return
        call = ThreadCall(self._service, connection, self._pool)
        connection.call = call
        if not self._pool.submit(call):
            call.refuse(_busy("too many requests wait: limits.queue", "queue_full"))

    @property
    def running(self) -> int:
        """Number of calls in threads. A call on the loop is over before this can be read."""
        return self._pool.busy if self._pool is not None else 0

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """None: no call is a task."""
        return []

    async def startup(self) -> None:
        """Do nothing: WSGI has no startup."""

    async def shutdown(self) -> None:
        """Do nothing: WSGI has no shutdown."""

    def tick(self, now: float) -> None:
        """Refuse the requests that have waited for a thread longer than timeouts.queue."""
        if self._pool is not None:
            for call in self._pool.withdraw_older(now - self._queue_timeout):
                if isinstance(call, ThreadCall):
                    call.wait_in_vain(_busy(f"no {self._pool.what} was free within timeouts.queue", "queue_timeout"))


def _busy(reason: str, refused_for: RefusedFor) -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason, refused_for=refused_for)
