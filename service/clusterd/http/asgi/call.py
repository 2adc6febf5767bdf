"""One HTTP request to an ASGI application: its receive and send, with back pressure."""

import asyncio
from io import BufferedReader
from time import monotonic
from typing import Any, cast

from clusterd.http.asgi.answer import Answer
from clusterd.http.asgi.application import AsgiApplication, ClientDisconnected, Message, is_disconnect
from clusterd.http.asgi.garbage import GARBAGE
from clusterd.http.asgi.inflow import Inflow
from clusterd.http.asgi.waiting import Waiters
from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transports.transfer import open_path, regular_bytes
from clusterd.http.forks import FORKS
from clusterd.http.messages.given import message as message_of
from clusterd.http.messages.given import path
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log
from clusterd.log.tracebacks import application_traceback

TURN_PIECES = 16
"""Maximum pieces that an application sends in a row, without ever waiting, before others have their turn."""

IN_VAIN_SECONDS = 0.001
"""Pause of each message that is sent when the client has gone: an endless stream does not keep the worker busy."""

PATH_BLOCK_BYTES = 256 * 1024
"""Bytes in memory at a time of a file that is read to be sent."""


class AsgiCall(Answer):
    """A request that is being answered. The response may be complete long before the application returns."""

    __slots__ = (
        "_body",
        "_client_closed",
        "_end",
        "_gone_at",
        "_is_sent_in_vain",
        "_knows_of_end",
        "_pieces",
        "_waiters",
        "task",
    )

    def __init__(self, connection: Connection, stamp: Stamp, log: Log, *, ends_connection: bool = False) -> None:
        super().__init__(connection, stamp, log, ends_connection=ends_connection)
        request = connection.request
        body = None if request is None else request.body
        self._body = None if body is None else cast(Inflow, body)
        self._pieces = 0
        self._client_closed = False
        """Whether the client has closed its sending side."""
        self._end = False
        """Whether the application has received the whole body."""
        self._knows_of_end = False
        """Whether the application has received http.disconnect, after which it need not complete its response."""
        self._gone_at = 0.0
        """When the client has gone."""
        self._is_sent_in_vain = False
        """Whether the application has sent something since."""
        self._waiters = Waiters()
        self.task: asyncio.Task[None] | None = None
        if self._body is not None:
            self._body.on_room = connection.take_more

    async def run(self, application: AsgiApplication, scope: dict[str, Any]) -> None:
        """Call the application. An error of it becomes a 500, or an incomplete response if a part was sent."""
        self._asked.begins()
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.fail("" if self.gone or self._knows_of_end else "was cancelled")
        except BaseException as error:  # A SystemExit also ends only the request.
            FORKS.end_if_fork(error)
            self.fail("" if is_disconnect(error) else f"raised\n{application_traceback(error, or_ours=True)}")
        else:
            FORKS.end_if_fork()
            if not self.is_over:
                self.fail("" if self._knows_of_end else f"returned where {self._expected.value} was expected")
        if self._is_sent_in_vain:
            GARBAGE.collect_soon()

    # ---- what the application calls

    async def receive(self) -> Message:
        """Return the next piece of the body. After the body, wait for the end of the request: http.disconnect."""
        FORKS.end_if_fork()
        if not self._end and not self.is_over:
            body = self._body
            if body is None:
                self._end = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if (
                self._encoder is None
            ):  # After the response has begun, an interim response would be read as a part of it.
                self._connection.invite_body()
            began = 0.0 if body.held else monotonic()
            data = await body.take()
            if began:
                self._asked.on_client += monotonic() - began
            if not body.is_closed:  # The rest of a closed body was dropped, so its end is unknown.
                self._end = body.is_complete
                return {"type": "http.request", "body": data, "more_body": not self._end}
        while not self.is_over and not self._client_closed:
            await self._waiters.wait()
        self._knows_of_end = True
        return {"type": "http.disconnect"}

    async def send(self, given: object) -> None:
        """Send a part of the response, and wait while the client does not read.

        Raises ClientDisconnected if the client has long gone, RuntimeError if another message is expected, TypeError
        for a message that is not as ASGI says.
        """
        FORKS.end_if_fork()
        if self.started and not self._connection.writable:  # What was sent at the end of a turn is not read yet.
            await self._readable()
        if self.gone:
            await self._send_in_vain()
            return
        message = message_of(given)
        kind = message["type"]
        if kind == "http.response.pathsend" and self.expects_body:
            await self._send_file(path(message.get("path"), "http.response.pathsend: 'path'"))
        else:
            self.take(message)
            if kind == "http.response.start":
                return
            if message.get("more_body", False):
                self._pieces += 1
                if self._pieces % TURN_PIECES == 0:
                    # Let others have their turn, and let the loop notice that the client has gone.
                    await asyncio.sleep(0)
        await self._readable()

    async def _send_in_vain(self) -> None:
        """Do nothing with a message, since the client has gone. Raises ClientDisconnected after timeouts.write.

        Applications are written for servers that do nothing. A framework that listens for http.disconnect cancels the
        call meanwhile, and a response that has an end gets to it. An error out of `send` would keep Django from closing
        its response and its connections to databases, and would block a thread of a2wsgi for ever.
        """
        self._is_sent_in_vain = True
        await asyncio.sleep(IN_VAIN_SECONDS)
        if monotonic() >= self._gone_at + self._connection.deadline.write_seconds:
            raise ClientDisconnected

    async def _send_file(self, path: str) -> None:
        # Read in threads, because the disk may be slow and must not block the loop.
        in_thread = asyncio.get_running_loop().run_in_executor
        file = await in_thread(None, open_path, path)
        if isinstance(file, bytes):
            self._take_body(file, more=False)
            return
        with file:
            size = regular_bytes(file.fileno())
            if size and self._takes_file:
                await self._transfer(file, size)
                return
            while data := await in_thread(None, file.read, PATH_BLOCK_BYTES):
                self._take_body(data, more=True)
                await self._readable()
                if self.gone:
                    return
        self._take_body(b"", more=False)

    async def _transfer(self, file: BufferedReader, size: int) -> None:
        transfer = self._begin_file(file.fileno(), size)
        try:
            await self._readable()
        finally:
            if not transfer.is_over and not self.gone:  # Cancelled, and the file is about to be closed.
                self._break_off()
        if not self.gone:
            self._end_file(transfer)

    async def _readable(self) -> None:
        """Wait until the client has read what was sent, or the response is over."""
        while not self.is_over and not self._connection.writable:
            began = monotonic()
            await self._waiters.wait()
            self._asked.on_client += monotonic() - began

    # ---- what the connection calls

    @property
    def runs_in(self) -> object:
        """The task."""
        return self.task

    @property
    def is_running(self) -> bool:
        """Whether the application's call goes on."""
        return self.task is not None and not self.task.done()

    @property
    def phase(self) -> CallPhase:
        """The phase of the request."""
        return CallPhase.SENDING if self.started else CallPhase.RUNNING

    def resume(self) -> None:
        """The client has read everything that was sent."""
        self._wake()

    def client_closed(self) -> None:
        """The client has closed its sending side. `receive` reports it; otherwise the response is sent as usual."""
        self._client_closed = True
        self._wake()

    def disconnected(self) -> None:
        """The client has gone. The application learns it from its next `receive` or `send`."""
        self.gone = True
        self._gone_at = monotonic()
        if self._body is not None:
            self._body.close()
        self._wake()

    def cancel(self) -> None:
        """Cancel the application's task: timeouts.request has passed."""
        if self.task is not None:
            self.task.cancel()

    def _wake(self) -> None:
        self._waiters.wake()

    def _let_go(self) -> None:
        super()._let_go()
        self._wake()  # Another task of the application may wait in `receive`.
