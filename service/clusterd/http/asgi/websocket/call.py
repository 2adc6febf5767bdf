"""A WebSocket to an ASGI application: what it receives, and what it sends."""

import asyncio
import traceback
from enum import Enum
from http import HTTPStatus
from typing import Any

from clusterd.http.asgi.application import AsgiApplication, ClientDisconnected, Message
from clusterd.http.asgi.call import AsgiCall
from clusterd.http.asgi.websocket.handshake import Handshake, acceptance
from clusterd.http.asgi.websocket.session import MESSAGE_COST, Session
from clusterd.http.asgi.websocket.wire import Close, Wire, agree_on_compression
from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.messages.refusal import Refusal, application_failed
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log

TURN_BYTES = 64 * 1024
"""An application that sends more without ever waiting gives way to others."""

_DENIAL = "websocket.http."
"""What the messages of a denial response bear before the names of those of any response."""

_NEVER_SENT = frozenset({1004, 1005, 1006, 1015})
"""They say how a connection ended of which nobody said how."""


class _State(Enum):
    """How far it is; the text says what the application may send."""

    CONNECTING = "websocket.accept, websocket.close or websocket.http.response.start"
    DENYING = "the rest of its websocket.http.response"
    OPEN = "websocket.send or websocket.close"
    OVER = "nothing"
    """The application has closed or denied."""


class WebSocketCall:
    """One call of the application, from the request to its return."""

    def __init__(
        self, connection: Connection, handshake: Handshake, message_limit: int, stamp: Stamp, log: Log
    ) -> None:
        request = connection.request
        assert request is not None
        self._connection = connection
        self._request = request.head
        self._handshake = handshake
        self._message_limit = message_limit
        self._stamp = stamp
        self._log = log
        self._state = _State.CONNECTING
        self._is_announced = False
        """Whether the application has been given websocket.connect."""
        self._gone: Close | None = None
        """How the connection ended before it was accepted."""
        self._denial: AsgiCall | None = None
        self._session: Session | None = None
        self._sent_in_turn = 0
        """Bytes, since the application last let others have their turn."""
        self._waiter: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def run(self, application: AsgiApplication, scope: dict[str, Any]) -> None:
        """Call the application. What it leaves open is closed."""
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            given_up = self._closed is not None if self._denial is None else self._denial.gone
            self._fail("" if given_up else "was cancelled")
        except ClientDisconnected:
            self._fail("")
        except BaseException as error:  # SystemExit too ends a call, and never the server
            self._fail(f"raised\n{''.join(traceback.format_exception(error)).rstrip()}")
        else:
            if self._session is not None:
                self._session.close(Close(1000))
            elif self._closed is None and self._state is not _State.OVER:
                self._fail(f"returned where {self._state.value} was expected")

    # ---- what the application calls

    async def receive(self) -> Message:
        """The next message; that it has ended, once all that came before was taken."""
        if not self._is_announced:
            self._is_announced = True
            return {"type": "websocket.connect"}
        while self._denial is None:
            if self._session is not None and self._state is _State.OPEN:
                message = self._session.take()
                if message is not None:
                    return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}
            closed = self._closed
            if closed is not None:
                return _disconnect(closed)
            await self._wait()
        while (await self._denial.receive())["type"] != "http.disconnect":
            pass
        return _disconnect(Close(1006))

    async def send(self, message: Message) -> None:
        """Take a message, and wait while the client does not read.

        Raises ClientDisconnected when there is nobody to send it to, RuntimeError for a message that has no place here.
        """
        kind = message["type"]
        if self._closed is not None and self._state is not _State.OVER:
            raise ClientDisconnected
        if kind == "websocket.send" and self._session is not None and self._state is _State.OPEN:
            data = _data_of(message)
            self._session.send(data)
            self._sent_in_turn += len(data) + MESSAGE_COST
            await self._readable()
            if self._sent_in_turn >= TURN_BYTES:
                # Others have their turn too; and that the client has gone, only the loop can tell.
                await asyncio.sleep(0)
                self._sent_in_turn = 0
        elif kind == "websocket.close" and self._session is not None and self._state is _State.OPEN:
            close = _close_of(message)
            self._state = _State.OVER
            self._session.close(close)
        elif kind == "websocket.accept" and self._state is _State.CONNECTING:
            self._accept(message)
            await self._readable()
        elif kind == "websocket.close" and self._state is _State.CONNECTING:
            self._refuse(Refusal(HTTPStatus.FORBIDDEN, "the application does not accept this WebSocket"))
        elif kind.startswith(_DENIAL) and self._state in (_State.CONNECTING, _State.DENYING):
            await self._deny({**message, "type": kind.removeprefix("websocket.")})
        else:
            raise RuntimeError(f"the application sent {kind!r} where {self._state.value} was expected")

    # ---- what the connection calls

    @property
    def phase(self) -> CallPhase:
        """How far it is."""
        return CallPhase.RUNNING if self._session is None else CallPhase.WEBSOCKET

    @property
    def started(self) -> bool:
        """Whether it was accepted. A denial is a call of its own to the connection."""
        return self._session is not None

    def resume(self) -> None:
        """The client has read everything that was sent."""
        if self._session is not None:
            self._session.resume()
        self._wake()

    def client_closed(self) -> None:
        """Whoever sends nothing more will not answer a closing frame either."""
        if self._session is None:
            self._connection.abort()

    def disconnected(self) -> None:
        """The client has gone, or the server has given up."""
        if self._session is not None:
            self._session.lost()
        else:
            self._gone = Close(1006)
        self._wake()

    def cancel(self) -> None:
        """Its time is over."""
        if self.task is not None:
            self.task.cancel()

    # ----

    @property
    def _closed(self) -> Close | None:
        """How it ended, whoever ended it; None while it goes on."""
        return self._session.closed if self._session is not None else self._gone

    def _accept(self, message: Message) -> None:
        compression = agree_on_compression(self._handshake.extensions)
        accepted = compression.accepted if compression else None
        headers = message.get("headers", ())
        response = acceptance(self._handshake, message.get("subprotocol"), accepted, headers, self._stamp)
        self._state = _State.OPEN
        self._session = Session(self._connection, Wire(self._message_limit, compression), self._wake)
        self._connection.send(response)
        self._connection.switch(self._session)

    async def _deny(self, message: Message) -> None:
        """A response of the application's own instead of the WebSocket: from now on the call is one like any other."""
        if self._denial is None:
            self._denial = denial = AsgiCall(self._connection, self._stamp, self._log)
            denial.task = self.task or asyncio.current_task()  # begun eagerly, it is not known here yet
            self._connection.call = denial
            self._state = _State.DENYING
            self._wake()  # another task that waits in `receive` goes on to wait there
        await self._denial.send(message)
        if self._denial.is_over:
            self._state = _State.OVER

    def _refuse(self, refusal: Refusal) -> None:
        self._state = _State.OVER
        self._connection.refuse(refusal)

    def _fail(self, how: str) -> None:
        """The application has ended without completing what it began, or after it."""
        if self._denial is not None:
            self._denial.fail(how)
            return
        if how:
            self._log.error(f"the application, for the WebSocket {self._request.target}, {how}")
        if self._session is not None:
            self._session.close(Close(1011, "the application failed"))
        elif self._gone is None and self._state is _State.CONNECTING:
            self._refuse(application_failed())

    async def _readable(self) -> None:
        """Wait until the client has read what was sent, or does not matter any more."""
        while self._closed is None and not self._connection.writable:
            await self._wait()

    async def _wait(self) -> None:
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)  # an application may receive and send at the same time

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)


def _data_of(message: Message) -> str | bytes:
    """What a websocket.send carries. Raises TypeError for what is neither text nor bytes."""
    text = message.get("text")
    data: object = message.get("bytes") if text is None else text
    if isinstance(data, (str, bytes)):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"websocket.send with {type(data).__name__} where text or bytes belong")


def _close_of(message: Message) -> Close:
    """The closing frame of a websocket.close. Raises ValueError for a code that must not be sent."""
    code = message.get("code", 1000)
    if not 1000 <= code <= 4999 or code in _NEVER_SENT:
        raise ValueError(f"websocket.close with the code {code}, which cannot be sent (RFC 6455 section 7.4)")
    return Close(code, message.get("reason") or "")


def _disconnect(close: Close) -> Message:
    return {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
