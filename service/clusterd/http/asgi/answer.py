"""The response of an ASGI application to one HTTP request: checks its messages and their order, and sends them."""

import asyncio
from collections.abc import Iterable
from enum import Enum
from http import HTTPStatus

from clusterd.http.access.request_ids import mark
from clusterd.http.asgi.application import Message
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transports.transfer import FileTransfer
from clusterd.http.forks import FORKS
from clusterd.http.messages.given import byte_fields, number, octets
from clusterd.http.messages.refusal import application_failed
from clusterd.http.messages.response import (
    BYTE_FIELDS,
    Encoder,
    ResponseHead,
    Stamp,
    accepts_trailers,
    early_hints,
    plain_response,
    refusal_response,
    trailer_lines,
)
from clusterd.http.ports import Log

HELD_BYTES = 16 * 1024
"""Pieces of a response that follow each other at once are sent together up to this size."""


class _Expected(Enum):
    """The message that the application must send next."""

    START = "http.response.start"
    BODY = "http.response.body"
    TRAILERS = "http.response.trailers"
    REST_OF_FILE = "the rest of its file"
    """The file is being sent, and no message may come before its end."""
    NOTHING = "nothing"


# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_START, _BODY, _TRAILERS, _NOTHING = _Expected.START, _Expected.BODY, _Expected.TRAILERS, _Expected.NOTHING
_REST_OF_FILE = _Expected.REST_OF_FILE


class Answer:
    """The state of the response: what was sent, and what may come next. It never waits for the client."""

    __slots__ = (
        "_asked",
        "_connection",
        "_encoder",
        "_ends_connection",
        "_expected",
        "_has_trailers",
        "_head",
        "_held",
        "_held_bytes",
        "_log",
        "_request",
        "_stamp",
        "gone",
        "started",
    )

    def __init__(self, connection: Connection, stamp: Stamp, log: Log, *, ends_connection: bool = False) -> None:
        request = connection.request
        assert request is not None
        self._connection = connection
        self._asked = request
        self._request = request.head
        self._stamp = stamp
        self._log = log
        self._expected = _START
        self._head: ResponseHead | None = None
        self._encoder: Encoder | None = None
        self._has_trailers = False
        """Whether the application sends trailers."""
        self._held: list[bytes] = []
        """What is sent with the pieces that follow in this turn of the loop: a system call for each costs more."""
        self._held_bytes = 0
        self._ends_connection = ends_connection
        self.gone = False
        """Whether the client has gone or the server has given up, so that the rest is not sent."""
        self.started = False
        """Whether a part of the response was given to the connection."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent: the response is complete or `gone`."""
        return self.gone or self._expected is _NOTHING

    @property
    def _persistent(self) -> bool:
        """Whether the connection may be used again."""
        return self._connection.persistent and not self._ends_connection

    # ---- the messages

    @property
    def expects_body(self) -> bool:
        """Whether the body, or more of it, comes next."""
        return self._expected is _BODY

    def take(self, message: Message) -> None:
        """Send what the message contains. Raises RuntimeError if another message is expected."""
        kind, expected = message["type"], self._expected
        if kind == "http.response.body" and expected is _BODY:
            body = octets(message.get("body", b""), "http.response.body: 'body'")
            self._take_body(body, more=bool(message.get("more_body", False)))
        elif kind == "http.response.start" and expected is _START:
            status = number(message.get("status"), "http.response.start: 'status'")
            self._head = ResponseHead(status, message.get("headers", ()), BYTE_FIELDS, "http.response.start: 'headers'")
            if self._asked.returned_id:
                mark(self._head, self._asked.returned_id)
            self._has_trailers = bool(message.get("trailers", False))
            self._expected = _BODY
        elif kind == "http.response.trailers" and expected is _TRAILERS:
            headers = byte_fields(message.get("headers", ()), "http.response.trailers: 'headers'")
            self._take_trailers(headers, more=bool(message.get("more_trailers", False)))
        elif kind == "http.response.early_hint" and self._encoder is None and not self.is_over:
            if self._request.minor:  # HTTP/1.0 has no interim responses.
                self._connection.send(early_hints(message.get("links", ()), "http.response.early_hint: 'links'"))
        else:
            raise RuntimeError(f"the application sent {kind!r} where {expected.value} was expected")

    def _take_body(self, data: bytes, *, more: bool) -> None:
        head = self._head
        assert head is not None
        if self._encoder is None:
            persistent = self._persistent
            if not more and not self._has_trailers:
                response = plain_response(self._request, head, self._stamp, data, persistent=persistent)
                if response is not None:
                    self._send(response)
                    self._finish(persistent=persistent)
                    return
            self._encoder = encoder = Encoder(self._request, persistent)
            if not more and not self._has_trailers:
                self._send(encoder.whole(head, self._stamp, data))
                self._complete()
                return
            self._send_soon(encoder.start(head, self._stamp, data))
        else:
            encoder = self._encoder
            self._send_soon(encoder.more(data))
        if not more:
            if self._has_trailers:
                self._expected = _TRAILERS
                return
            self._send_last(encoder.end())
            self._complete()

    def _send_soon(self, data: bytes) -> None:
        """Send a part of the response at the end of this turn of the loop, or earlier if it becomes much."""
        if not data:
            return
        if not self._held:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= HELD_BYTES:
            self._send_held()

    def _send_last(self, data: bytes) -> None:
        self._held.append(data)
        self._send_held()

    def _end_turn(self) -> None:
        FORKS.end_if_fork()  # A child would send it once more.
        self._send_held()

    def _send_held(self) -> None:
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            if not self.gone:
                self._send(data)

    def _send(self, data: bytes) -> None:
        self.started = True
        self._connection.send(data)

    def _take_trailers(self, headers: Iterable[tuple[bytes, bytes]], *, more: bool) -> None:
        encoder = self._encoder
        assert encoder is not None
        lines = trailer_lines(headers)
        if accepts_trailers(self._request):
            encoder.trailers += lines
        if not more:
            self._send_last(encoder.end())
            self._complete()

    # ---- a file as the whole body, by sendfile(2)

    @property
    def _takes_file(self) -> bool:
        return self._encoder is None and not self._has_trailers and self._connection.takes_files

    def _begin_file(self, descriptor: int, size: int) -> FileTransfer:
        connection, head = self._connection, self._head
        assert head is not None
        if head.content_length is None and head.has_body:
            head.content_length = size
        self._encoder = encoder = Encoder(self._request, self._persistent)
        self._send(encoder.start(head, self._stamp))
        transfer = FileTransfer(descriptor, 0, min(size, encoder.missing))
        if encoder.missing:
            self._expected = _REST_OF_FILE
            connection.send_file(transfer)
        return transfer

    def _end_file(self, transfer: FileTransfer) -> None:
        encoder = self._encoder
        assert encoder is not None
        encoder.sent_beside(transfer.sent)
        self._complete()

    # ---- the end

    @property
    def _status(self) -> int:
        return self._head.status if self._head else HTTPStatus.INTERNAL_SERVER_ERROR.value

    def _complete(self) -> None:
        encoder = self._encoder
        assert encoder is not None
        if encoder.missing:
            self._report(f"sent {encoder.missing} bytes less than its Content-Length")
            self._break_off()
            return
        if encoder.excess:
            self._report(f"sent {encoder.excess} bytes more than its Content-Length")
        self._finish(persistent=encoder.persistent)

    def _finish(self, *, persistent: bool) -> None:
        self._let_go()
        self._connection.finish(self._status, persistent=persistent)

    def _break_off(self, *, is_client_gone: bool = False) -> None:
        self._send_held()
        self._let_go()
        self._connection.break_off(self._status, is_client_gone=is_client_gone)

    def _let_go(self) -> None:
        """Detach from the connection: nothing more can be sent."""
        self._expected = _NOTHING
        self._connection.call = None

    def fail(self, how: str) -> None:
        """The application has ended without completing the response, or has failed after it. Log `how` unless it is
        empty, because the client has left.
        """
        if how:
            self._report(how)
        if self.is_over:
            return
        if self._encoder is not None or not how:
            self._break_off(is_client_gone=not how)
            return
        self._head, body = refusal_response(application_failed())
        mark(self._head, self._asked.returned_id)
        self._has_trailers = False
        self._take_body(body, more=False)

    def _report(self, what: str) -> None:
        head, request_id = self._request, self._asked.id or None
        self._log.error(f"the application {what}", method=head.method, target=head.target, request_id=request_id)
