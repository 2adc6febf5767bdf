"""One WebSocket to an ASGI application: its receive and send."""

import asyncio
from enum import Enum
from http import HTTPStatus
from typing import Any

from clusterd.http.asgi.application import AsgiApplication, ClientDisconnected, Message, is_disconnect
from clusterd.http.asgi.call import AsgiCall
from clusterd.http.asgi.waiting import Waiters
from clusterd.http.asgi.websocket.compression import Compression, agree
from clusterd.http.asgi.websocket.frames import Close
from clusterd.http.asgi.websocket.handshake import Handshake, acceptance
from clusterd.http.asgi.websocket.session import MESSAGE_COST, Session
from clusterd.http.asgi.websocket.wire import Wire
from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.forks import FORKS
from clusterd.http.messages.given import byte_fields, number, octets, text
from clusterd.http.messages.given import message as message_of
from clusterd.http.messages.quota import Quota
from clusterd.http.messages.refusal import Refusal, application_failed
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Log
from clusterd.log.tracebacks import application_traceback

TURN_BYTES = 64 * 1024
"""Maximum bytes that an application sends without ever waiting before others have their turn."""

_DENIAL = "websocket.http."
"""Prefix of the types of a denial response's messages."""

_NEVER_SENT = frozenset({1004, 1005, 1006, 1015})
"""Codes that are reserved and must not be sent in a closing frame (RFC 6455 section 7.4.1)."""


class _State(Enum):
    """The state of the call. The text says what the application may send."""

    CONNECTING = "websocket.accept, websocket.close or websocket.http.response.start"
    DENYING = "the rest of its websocket.http.response"
    OPEN = "websocket.send or websocket.close"
    OVER = "nothing"
    """The application has closed or denied the WebSocket."""


class WebSocketCall:
    """One call of the application for a WebSocket, from the request to its return."""

    def __init__(
        self,
        connection: Connection,
        handshake: Handshake,
        message_limit: int,
        quota: Quota,
        stamp: Stamp,
        log: Log,
    ) -> None:
        request = connection.request
        assert request is not None
        self._connection = connection
        self._asked = request
        self._request = request.head
        self._handshake = handshake
        self._message_limit = message_limit
        self._quota = quota
        self._stamp = stamp
        self._log = log
        self._state = _State.CONNECTING
        self._is_announced = False
        """Whether the application has received websocket.connect."""
        self._gone: Close | None = None
        """How the connection ended, if it ended before the application accepted it."""
        self._denial: AsgiCall | None = None
        self._session: Session | None = None
        self._sent_in_turn = 0
        """Bytes sent since the application last let others have their turn."""
        self._waiters = Waiters()
        self.task: asyncio.Task[None] | None = None

    async def run(self, application: AsgiApplication, scope: dict[str, Any]) -> None:
        """Call the application. Close the WebSocket if the application leaves it open."""
        self._asked.begins()
        try:
            await application(scope, self.receive, self.send)
        except asyncio.CancelledError:
            given_up = self._closed is not None if self._denial is None else self._denial.gone
            self._fail("" if given_up else "was cancelled")
        except BaseException as error:  # A SystemExit also ends only the call.
            FORKS.end_if_fork(error)
            self._fail("" if is_disconnect(error) else f"raised\n{application_traceback(error, or_ours=True)}")
        else:
            FORKS.end_if_fork()
            if self._session is not None:
                self._session.close(Close(1000))
            elif self._closed is None and self._state is not _State.OVER:
                self._fail(f"returned where {self._state.value} was expected")

    # ---- what the application calls

    async def receive(self) -> Message:
        """Return the next message of the client, and after the last one websocket.disconnect."""
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
            await self._waiters.wait()
        while (await self._denial.receive())["type"] != "http.disconnect":
            pass
        return _disconnect(Close(1006))

    async def send(self, given: object) -> None:
        """Send a message, and wait while the client does not read.

        Raises ClientDisconnected if the client has gone, RuntimeError if another message is expected, TypeError for a
        message that is not as ASGI says.
        """
        FORKS.end_if_fork()
        message = message_of(given)
        kind = message["type"]
        if self._closed is not None and self._state is not _State.OVER:
            if kind == "websocket.close":  # Both sides have closed at the same time.
                self._state = _State.OVER
                return
            raise ClientDisconnected
        if kind == "websocket.send" and self._session is not None and self._state is _State.OPEN:
            data = _data_of(message)
            self._session.send(data)
            self._sent_in_turn += len(data) + MESSAGE_COST
            await self._readable()
            if self._sent_in_turn >= TURN_BYTES:
                # Let others have their turn, and let the loop notice that the client has gone.
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
        return CallPhase.RUNNING if self._session is None else CallPhase.WEBSOCKET

    @property
    def started(self) -> bool:
        """Whether the WebSocket was accepted. For a denial, the connection has another call."""
        return self._session is not None

    def resume(self) -> None:
        """The client has read everything that was sent."""
        if self._session is not None:
            self._session.resume()
        self._wake()

    def client_closed(self) -> None:
        """Drop a client that closes its sending side before the acceptance: it could not answer a closing frame."""
        if self._session is None:
            self._connection.client_left()

    def disconnected(self) -> None:
        """The client has gone, or the server has given up the WebSocket."""
        if self._session is not None:
            self._session.lost()
        else:
            self._gone = Close(1006)
        self._wake()

    def cancel(self) -> None:
        """Cancel the application's task: timeouts.request has passed."""
        if self.task is not None:
            self.task.cancel()

    # ----

    @property
    def _closed(self) -> Close | None:
        """How the WebSocket ended, by either side; None while it is open."""
        return self._session.closed if self._session is not None else self._gone

    def _accept(self, message: Message) -> None:
        agreement = agree(self._handshake.extensions)
        accepted = agreement.accepted if agreement else None
        headers = list(byte_fields(message.get("headers", ()), "websocket.accept: 'headers'"))
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            subprotocol = text(subprotocol, "websocket.accept: 'subprotocol'")
        returned = self._asked.returned_id
        if returned and not any(name.lower() == b"x-request-id" for name, _ in headers):
            headers.append((b"X-Request-Id", returned.encode("latin-1")))
        response = acceptance(self._handshake, subprotocol, accepted, headers, self._stamp)
        self._state = _State.OPEN
        wire = Wire(self._message_limit, Compression(agreement) if agreement else None)
        self._session = Session(self._connection, wire, self._quota, self._wake)
        self._connection.send(response)
        self._connection.switch(self._session)

    async def _deny(self, message: Message) -> None:
        """Send a response of the application instead of accepting. From now on the call is an ordinary HTTP call."""
        if self._denial is None:
            self._denial = denial = AsgiCall(self._connection, self._stamp, self._log, ends_connection=True)
            denial.task = self.task or asyncio.current_task()  # An eager task is not set here yet.
            self._connection.call = denial
            self._state = _State.DENYING
            self._wake()  # Another task may wait in `receive`, and must now wait for the denial.
        await self._denial.send(message)
        if self._denial.is_over:
            self._state = _State.OVER

    def _refuse(self, refusal: Refusal) -> None:
        self._state = _State.OVER
        self._connection.refuse(refusal)

    def _fail(self, how: str) -> None:
        """The application has ended without completing the WebSocket, or failed after it. Log `how` if not empty."""
        if self._denial is not None:
            self._denial.fail(how)
            return
        if how:
            request_id = self._asked.id or None
            self._log.error(f"the application {how}", websocket=self._request.target, request_id=request_id)
        if self._session is not None:
            self._session.close(Close(1011, "the application failed"))
        elif self._gone is None and self._state is _State.CONNECTING:
            self._refuse(application_failed())

    async def _readable(self) -> None:
        """Wait until the client has read what was sent, or the WebSocket is closed."""
        while self._closed is None and not self._connection.writable:
            await self._waiters.wait()

    def _wake(self) -> None:
        self._waiters.wake()


def _data_of(message: Message) -> str | bytes:
    """Return the data of a websocket.send. Raises TypeError if it is neither text nor bytes."""
    data = message.get("text")
    if data is not None:
        return text(data, "websocket.send: 'text'")
    return octets(message.get("bytes"), "websocket.send: 'bytes', without 'text'")


def _close_of(message: Message) -> Close:
    """Return the closing frame of a websocket.close. Raises ValueError for a code that must not be sent."""
    given = message.get("code", 1000)
    code = 1000 if given is None else number(given, "websocket.close: 'code'") or 1000
    if not 1000 <= code <= 4999 or code in _NEVER_SENT:
        raise ValueError(f"websocket.close with the code {code}, which cannot be sent (RFC 6455 section 7.4)")
    return Close(code, text(message.get("reason") or "", "websocket.close: 'reason'"))


def _disconnect(close: Close) -> Message:
    return {"type": "websocket.disconnect", "code": close.code, "reason": close.reason}
