"""One HTTP request to an ASGI application: what it receives, and what it sends."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from http import HTTPStatus
from io import BufferedReader
from typing import Any, cast

from clusterd.http.asgi.inflow import Inflow
from clusterd.http.call import Phase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transfer import FileTransfer, open_path, regular_bytes
from clusterd.http.messages.refusal import application_failed
from clusterd.http.messages.response import (
    Encoder,
    ResponseHead,
    Stamp,
    early_hints,
    plain_response,
    refusal_response,
    trailer_lines,
)
from clusterd.http.ports import Log

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

TURN_PIECES = 16
"""Pieces that an application sends in a row, without ever waiting, before others have their turn."""

PATH_BLOCK_BYTES = 256 * 1024
"""Of a file that is sent by its path, in memory at a time."""


class ClientDisconnected(OSError):
    """Raised by `send` when nobody reads any more (ASGI's spec_version 2.4)."""


class _Expected(Enum):
    """What the application is to send next."""

    START = "http.response.start"
    BODY = "http.response.body"
    TRAILERS = "http.response.trailers"
    REST_OF_FILE = "the rest of its file"
    """Which is on its way: nothing may come between."""
    NOTHING = "nothing"


# On Python 3.11 an enum's attribute costs four times as much as a name of the module.
_START, _BODY, _TRAILERS, _NOTHING = _Expected.START, _Expected.BODY, _Expected.TRAILERS, _Expected.NOTHING
_REST_OF_FILE = _Expected.REST_OF_FILE


class AsgiCall:
    """A request being answered. The response may be complete long before the application returns."""

    __slots__ = (
        "_body",
        "_client_closed",
        "_connection",
        "_encoder",
        "_end",
        "_expected",
        "_gone",
        "_has_trailers",
        "_head",
        "_log",
        "_pieces",
        "_request",
        "_stamp",
        "_waiter",
        "started",
        "task",
    )

    def __init__(self, connection: Connection, stamp: Stamp, log: Log) -> None:
        request = connection.request
        assert request is not None
        self._connection = connection
        self._request = request.head
        body = request.body
        self._body = None if body is None else cast(Inflow, body)
        self._stamp = stamp
        self._log = log
        self._expected = _START
        self._head: ResponseHead | None = None
        self._encoder: Encoder | None = None
        self._has_trailers = False
        self._pieces = 0
        self._gone = False
        """Nobody waits for the rest of the answer: the client has gone, or the server has given up."""
        self._client_closed = False
        """The client sends nothing more."""
        self._end = False
        """The body has been given to the application as a whole."""
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        if self._body is not None:
            self._body.on_room = connection.take_more

    async def run(self, application: AsgiApplication, scope: dict[str, Any]) -> None:
        """Call the application. Its errors become a 500, or an incomplete response."""
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            self.fail("was cancelled")
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
        if not self._end and not self._gone:
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
        if self._gone:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.body" and self._expected is _BODY:
            more = message.get("more_body", False)
            self._take_body(message.get("body", b""), more=more)
            if more:
                self._pieces += 1
                if self._pieces % TURN_PIECES == 0:
                    # Others have their turn too; and that the client has gone, only the loop can tell.
                    await asyncio.sleep(0)
        elif kind == "http.response.start" and self._expected is _START:
            self._head = ResponseHead(message["status"], message.get("headers", ()))
            self._has_trailers = message.get("trailers", False)
            self._expected = _BODY
            return
        elif kind == "http.response.trailers" and self._expected is _TRAILERS:
            self._take_trailers(message.get("headers", ()), more=message.get("more_trailers", False))
        elif kind == "http.response.pathsend" and self._expected is _BODY:
            await self._send_file(message["path"])
        elif kind == "http.response.early_hint" and self._expected is _START:
            if self._request.minor:  # HTTP/1.0 knows no interim responses
                self._connection.send(early_hints(message.get("links", ())))
        else:
            raise RuntimeError(f"the application sent {kind!r} where {self._expected.value} was expected")
        await self._readable()

    # ---- what the connection calls

    @property
    def phase(self) -> Phase:
        """How far the answer is."""
        return Phase.SENDING if self.started else Phase.RUNNING

    def resume(self) -> None:
        """The client has read everything that was sent."""
        self._wake()

    def client_closed(self) -> None:
        """Told to an application that asks; one that does not goes on, and its response is sent."""
        self._client_closed = True
        self._wake()

    def disconnected(self) -> None:
        """Nobody waits for the answer any more: the application learns of it when it next asks or sends."""
        self._gone = True
        if self._body is not None:
            self._body.close()
        self._wake()

    def cancel(self) -> None:
        """Its time is over."""
        if self.task is not None:
            self.task.cancel()

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent: the response is complete, or nobody waits for it."""
        return self._gone or self._expected is _NOTHING

    async def _readable(self) -> None:
        """Wait until the client has read what was sent, or does not matter any more."""
        while not self.is_over and not self._connection.writable:
            await self._wait()

    async def _wait(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)  # an application may receive and send at the same time

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ---- the response

    def _take_body(self, data: bytes | bytearray | memoryview, *, more: bool) -> None:
        if not isinstance(data, bytes):
            data = bytes(data)
        connection = self._connection
        head = self._head
        assert head is not None
        if self._encoder is None:
            self.started = True
            persistent = connection.persistent
            if not more and not self._has_trailers:
                response = plain_response(self._request, head, self._stamp, data, persistent=persistent)
                if response is not None:
                    connection.send(response)
                    self._finish(head.status, persistent=persistent)
                    return
            self._encoder = encoder = Encoder(self._request, persistent)
            if not more and not self._has_trailers:
                connection.send(encoder.whole(head, self._stamp, data))
                self._complete(head.status)
                return
            connection.send(encoder.start(head, self._stamp, data))
        else:
            encoder = self._encoder
            connection.send(encoder.more(data))
        if not more:
            if self._has_trailers:
                self._expected = _TRAILERS
                return
            connection.send(encoder.end())
            self._complete(head.status)

    def _take_trailers(self, headers: Iterable[tuple[bytes, bytes]], *, more: bool) -> None:
        encoder, head = self._encoder, self._head
        assert encoder is not None
        assert head is not None
        encoder.trailers += trailer_lines(headers)
        if not more:
            self._connection.send(encoder.end())
            self._complete(head.status)

    async def _send_file(self, path: str) -> None:
        # In threads: the disk may be slow, and the loop has other connections.
        in_thread = asyncio.get_running_loop().run_in_executor
        file = await in_thread(None, open_path, path)
        if isinstance(file, bytes):
            self._take_body(file, more=False)
            return
        with file:
            size = regular_bytes(file.fileno())
            if size and self._encoder is None and not self._has_trailers and self._connection.takes_files:
                await self._transfer(file, size)
                return
            while data := await in_thread(None, file.read, PATH_BLOCK_BYTES):
                self._take_body(data, more=True)
                await self._readable()
                if self._gone:
                    raise ClientDisconnected
        self._take_body(b"", more=False)

    async def _transfer(self, file: BufferedReader, size: int) -> None:
        """A file that is all of the body, by sendfile(2)."""
        connection, head = self._connection, self._head
        assert head is not None
        if head.content_length is None and head.has_body:
            head.content_length = size
        self.started = True
        self._encoder = encoder = Encoder(self._request, connection.persistent)
        connection.send(encoder.start(head, self._stamp))
        transfer = FileTransfer(file.fileno(), 0, min(size, encoder.missing))
        if encoder.missing:
            self._expected = _REST_OF_FILE
            connection.send_file(transfer)
        try:
            await self._readable()
        finally:
            if not transfer.is_over and not self._gone:  # cancelled; and the file is about to be closed
                self._break_off(head.status)
        if self._gone:
            raise ClientDisconnected
        encoder.sent_beside(transfer.sent)
        self._complete(head.status)

    def _complete(self, status: int) -> None:
        encoder = self._encoder
        assert encoder is not None
        if encoder.missing:
            self._report(f"sent {encoder.missing} bytes less than its Content-Length")
            self._break_off(status)
            return
        if encoder.excess:
            self._report(f"sent {encoder.excess} bytes more than its Content-Length")
        self._finish(status, persistent=encoder.persistent)

    def _finish(self, status: int, *, persistent: bool) -> None:
        self._let_go()
        self._connection.finish(status, persistent=persistent)

    def _break_off(self, status: int) -> None:
        self._let_go()
        self._connection.break_off(status)

    def _let_go(self) -> None:
        """Nothing more can be sent: another task of the application's, which waits in `receive`, is to learn it."""
        self._expected = _NOTHING
        self._connection.call = None
        if self._waiter is not None:
            self._wake()

    def fail(self, how: str) -> None:
        """The application has ended without completing the response, or after it."""
        if how and not (self._gone and how == "was cancelled"):
            self._report(how)
        if self.is_over:
            return
        if self.started:
            self._break_off(self._head.status if self._head else HTTPStatus.INTERNAL_SERVER_ERROR.value)
            return
        self._head, body = refusal_response(application_failed())
        self._has_trailers = False
        self._take_body(body, more=False)

    def _report(self, what: str) -> None:
        self._log.error(f"the application, for {self._request.method} {self._request.target}, {what}")
