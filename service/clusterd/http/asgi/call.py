"""One HTTP request to an ASGI application: what it receives, and how long it waits for its client."""

import asyncio
import traceback
from io import BufferedReader
from typing import Any, cast

from clusterd.http.asgi.answer import Answer
from clusterd.http.asgi.application import AsgiApplication, ClientDisconnected, Message
from clusterd.http.asgi.inflow import Inflow
from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transfer import open_path, regular_bytes
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log

TURN_PIECES = 16
"""Pieces that an application sends in a row, without ever waiting, before others have their turn."""

PATH_BLOCK_BYTES = 256 * 1024
"""Of a file that is read to be sent, in memory at a time."""


class AsgiCall(Answer):
    """A request being answered. The response may be complete long before the application returns."""

    __slots__ = ("_body", "_client_closed", "_end", "_pieces", "_waiter", "task")

    def __init__(self, connection: Connection, stamp: Stamp, log: Log) -> None:
        super().__init__(connection, stamp, log)
        request = connection.request
        body = None if request is None else request.body
        self._body = None if body is None else cast(Inflow, body)
        self._pieces = 0
        self._client_closed = False
        """The client sends nothing more."""
        self._end = False
        """The body has been given to the application as a whole."""
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        if self._body is not None:
            self._body.on_room = connection.take_more

    async def run(self, application: AsgiApplication, scope: dict[str, Any]) -> None:
        """Call the application. Its errors become a 500, or an incomplete response."""
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.fail("" if self.gone else "was cancelled")
        except ClientDisconnected:
            self.fail("")
        except BaseException as error:  # SystemExit too ends a request, and never the server
            self.fail(f"raised\n{''.join(traceback.format_exception(error)).rstrip()}")
        else:
            if not self.is_over:
                self.fail(f"returned where {self._expected.value} was expected")

    # ---- what the application calls

    async def receive(self) -> Message:
        """The next piece of the body; afterwards, once there is no more to say, that the client has gone."""
        if not self._end and not self.gone:
            body = self._body
            if body is None:
                self._end = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if not self.started:  # later, it would be read as a part of the response
                self._connection.invite_body()
            data = await body.take()
            if not body.is_closed:  # the rest of one that was closed is dropped, and never known to be the end
                self._end = body.is_complete
                return {"type": "http.request", "body": data, "more_body": not self._end}
        while not self.is_over and not self._client_closed:
            await self._wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the response, and wait while the client does not read.

        Raises ClientDisconnected when there is nobody to send it to, RuntimeError for a message that has no place here.
        """
        if self.gone:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.pathsend" and self.expects_body:
            await self._send_file(message["path"])
        else:
            self.take(message)
            if kind == "http.response.start":
                return
            if message.get("more_body", False):
                self._pieces += 1
                if self._pieces % TURN_PIECES == 0:
                    # Others have their turn too; and that the client has gone, only the loop can tell.
                    await asyncio.sleep(0)
        await self._readable()

    async def _send_file(self, path: str) -> None:
        # In threads: the disk may be slow, and the loop has other connections.
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
                    raise ClientDisconnected
        self._take_body(b"", more=False)

    async def _transfer(self, file: BufferedReader, size: int) -> None:
        transfer = self._begin_file(file.fileno(), size)
        try:
            await self._readable()
        finally:
            if not transfer.is_over and not self.gone:  # cancelled; and the file is about to be closed
                self._break_off()
        if self.gone:
            raise ClientDisconnected
        self._end_file(transfer)

    async def _readable(self) -> None:
        """Wait until the client has read what was sent, or does not matter any more."""
        while not self.is_over and not self._connection.writable:
            await self._wait()

    # ---- what the connection calls

    @property
    def phase(self) -> CallPhase:
        """How far the answer is."""
        return CallPhase.SENDING if self.started else CallPhase.RUNNING

    def resume(self) -> None:
        """The client has read everything that was sent."""
        self._wake()

    def client_closed(self) -> None:
        """Told to an application that asks; one that does not goes on, and its response is sent."""
        self._client_closed = True
        self._wake()

    def disconnected(self) -> None:
        """Nobody waits for the answer any more: the application learns of it when it next asks or sends."""
        self.gone = True
        if self._body is not None:
            self._body.close()
        self._wake()

    def cancel(self) -> None:
        """Its time is over."""
        if self.task is not None:
            self.task.cancel()

    async def _wait(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)  # an application may receive and send at the same time

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _let_go(self) -> None:
        super()._let_go()
        if self._waiter is not None:  # another task of the application's, which waits in `receive`, is to learn it
            self._wake()
