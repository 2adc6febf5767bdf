"""One call of a WSGI application (PEP 3333), and the bytes of its response. Used in threads and on the event loop."""

import os
from collections.abc import Callable, Generator, Iterable
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

from clusterd.http.access.request_ids import mark
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transports.transfer import SMALL_BYTES, FileTransfer
from clusterd.http.forks import FORKS
from clusterd.http.messages.given import text, unfit
from clusterd.http.messages.reception import Request
from clusterd.http.messages.refusal import application_failed
from clusterd.http.messages.response import TEXT_FIELDS, Encoder, ResponseHead, Stamp, plain_response, refusal_response
from clusterd.http.ports import Log
from clusterd.http.wsgi.body import Body, BodyReader
from clusterd.http.wsgi.environ import EnvironMaker
from clusterd.http.wsgi.file_wrapper import FileWrapper, RegularFile
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.log.tracebacks import application_traceback
from clusterd.runtime import originals

WsgiApplication = Callable[..., Iterable[object]]
Output = Generator[bytes | FileTransfer, None, None]
"""The pieces of a response. After a FileTransfer, ask for the next piece only when the transfer is complete."""
REQUEST_ID_KEY = "clusterd.request_id"
_HEADERS = "start_response: the headers"

_NOTHING = BodyReader(BytesIO(), lambda: None)
"""The input of requests without a body. They can share one, since it is always empty."""


class ClientGone(Exception):
    """Raised in the application's write() after the client has gone."""


class Service:
    """The data that all calls of the application share."""

    __slots__ = ("_log", "application", "environs", "mailbox", "on_overdue", "stamp")

    def __init__(
        self,
        application: WsgiApplication,
        environs: EnvironMaker,
        stamp: Stamp,
        mailbox: Mailbox,
        log: Log,
        on_overdue: Callable[[str, Any], None],
    ) -> None:
        self.application = application
        self.environs = environs
        self.stamp = stamp
        self.mailbox = mailbox
        self.on_overdue = on_overdue
        self._log = log

    def report(self, message: str, request: Request) -> None:
        """Log an error in the application's call for `request`. May be called from any thread."""
        head = request.head
        named = partial(self._log.error, method=head.method, target=head.target, request_id=request.id or None)
        self.mailbox.post(named, message)


class Exchange:
    """One request and its response.

    `begin` calls the application. The subclass sends what `begin` returns, because it knows how to wait for the client,
    and then calls `conclude`.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_connection",
        "_encoder",
        "_head",
        "_persistent",
        "_request",
        "_service",
        "environ",
        "failed",
        "started",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        request = connection.request
        assert request is not None
        self._service = service
        self._asked = request
        self._request = request.head
        self._connection = connection
        self._body = cast("Body | None", request.body)
        self._encoder: Encoder | None = None
        """None before anything is sent, and for a response that `plain_response` has encoded."""
        self._persistent = False
        self._head: ResponseHead | None = None
        self.environ = self._make_environ()
        self.started = False
        """Whether any part of the response was produced."""
        self.failed = False
        """Whether the response is incomplete, so that the connection must be closed."""

    def _make_environ(self) -> dict[str, Any]:
        body, connection, environs = self._body, self._connection, self._service.environs
        common = connection.kept
        if common is None:
            if connection.behind_proxy:
                common = environs.of_request(connection.origin)
            else:
                common = environs.of_connection(connection.peer, connection.local, connection.scheme)
                connection.kept = common
        reader = _NOTHING if body is None else BodyReader(body.file, self.note_progress)
        environ = environs.make(common, self._request, body, reader)
        if self._asked.id:
            environ[REQUEST_ID_KEY] = self._asked.id
        return environ

    # ---- for the subclass

    def note_progress(self) -> None:
        """Record that the application has called the server. A subclass may override this."""

    def write(self, data: bytes) -> None:
        """Send `data` at once. The function that start_response returns calls this."""
        raise NotImplementedError

    def begin(self) -> bytes | Output:
        """Call the application. Returns the complete response, or its pieces.

        An error of the application becomes a 500, or an incomplete response if a part was sent.
        """
        try:
            result = self._service.application(self.environ, self._start_response)
            FORKS.end_if_fork()
            if type(result) is list and len(result) == 1 and not self.started:
                return self._whole(self._head_now(), _checked(result[0]))
        except BaseException as error:
            return self._fail(error)
        return self._pieces(result)

    def conclude(self) -> None:
        """End the response. Called on the loop's thread."""
        if self.failed:
            self._connection.break_off(self._status)
        else:
            persistent = self._persistent if self._encoder is None else self._encoder.persistent
            self._connection.finish(self._status, persistent=persistent)

    def conclude_file(self, transfer: FileTransfer) -> None:
        """End a response whose file was sent, without asking its output for more. Called on the loop's thread."""
        assert self._encoder is not None
        self._encoder.sent_beside(transfer.sent)
        self._check_length(self._encoder)
        self.conclude()

    def client_closed(self) -> None:
        """Do nothing: the client may wait for its response."""

    def cancel(self) -> None:
        """Do nothing: the connection has called `disconnected`, and the next write() raises ClientGone."""

    def release(self) -> None:
        """Close the request's body."""
        if self._body is not None:
            self._body.close()

    # ---- what the application returned

    def abandon(self, output: Output) -> None:
        """Give up the rest of the response, and run the application's close()."""
        self.failed = True
        try:
            output.close()
        except BaseException as error:
            found = application_traceback(error, or_ours=True)
            self._report(f"raised when it was closed\n{found}")

    def _pieces(self, result: Iterable[object]) -> Output:
        try:
            yield from self._sent_of(result)
        except BaseException as error:
            if self.failed:
                raise  # Abandoned: nothing can be sent any more. A GeneratorExit must be raised in any case.
            yield self._fail(error)

    def _sent_of(self, result: Iterable[object]) -> Output:
        try:
            file = result.regular_file() if type(result) is FileWrapper and self._takes_file else None
            if file is not None:
                yield from self._file(result, file)
            else:
                yield from self._chunks(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        if self._encoder is not None:
            self._check_length(self._encoder)

    def _chunks(self, result: Iterable[object]) -> Output:
        for chunk in result:
            FORKS.end_if_fork()
            self.note_progress()
            yield self._encode(_checked(chunk)) if chunk else b""  # An empty piece also gives others a turn.
            if self._encoder is not None and self._encoder.satisfied:
                break
        yield self._whole(self._head_now(), b"") if self._encoder is None else self._encoder.end()

    @property
    def _takes_file(self) -> bool:
        return not self.started and self._connection.takes_files

    def _file(self, result: Iterable[object], file: RegularFile) -> Output:
        """Send a file that is the whole body, so that its length is known."""
        head = self._head_now()
        size = file.size if head.content_length is None else min(file.size, head.content_length)
        if size <= SMALL_BYTES:
            yield self._whole(head, file.file.read(size))
            return
        # Duplicate the descriptor: if the application closes its file, the number could become another file's.
        try:
            descriptor = os.dup(file.file.fileno())
        except OSError:  # There are no descriptors left.
            yield from self._chunks(result)
            return
        try:
            if head.content_length is None and head.has_body:
                head.content_length = size
            yield self._encode(b"")
            encoder = self._encoder
            assert encoder is not None
            if encoder.missing:
                transfer = FileTransfer(descriptor, file.offset, size)
                yield transfer
                encoder.sent_beside(transfer.sent)
        finally:
            originals.close(descriptor)

    def _encode(self, data: bytes) -> bytes:
        if self._encoder is not None:
            return self._encoder.more(data)
        head = self._head_now()
        self.started = True
        # Decided now and not when the request arrived: a drain may have begun, which requires `Connection: close`.
        self._encoder = Encoder(self._request, self._connection.persistent)
        return self._encoder.start(head, self._service.stamp, data)

    def _whole(self, head: ResponseHead, body: bytes) -> bytes:
        self.started = True
        self._persistent = persistent = self._connection.persistent
        response = plain_response(self._request, head, self._service.stamp, body, persistent=persistent)
        if response is not None:
            return response
        self._encoder = encoder = Encoder(self._request, persistent)
        response = encoder.whole(head, self._service.stamp, body)
        self._check_length(encoder)
        return response

    def _head_now(self) -> ResponseHead:
        if self._head is None:
            raise AssertionError("the application returned a body without calling start_response")
        return self._head

    # ---- called by the application

    def _start_response(self, status: object, headers: object, exc_info: object = None) -> Callable[[object], None]:
        self.note_progress()
        try:
            if exc_info is not None:
                if self.started:
                    _raise(exc_info)
            elif self._head is not None:
                raise AssertionError("start_response was called twice without exc_info")
        finally:
            exc_info = None  # PEP 3333: avoid a circular reference through the traceback.
        self._head = ResponseHead(text(status, "start_response: the status"), headers, TEXT_FIELDS, _HEADERS)
        if self._asked.returned_id:
            mark(self._head, self._asked.returned_id)
        return self._write_now

    def _write_now(self, data: object) -> None:
        FORKS.end_if_fork()
        self.note_progress()
        self.write(self._encode(_checked(data)))

    # ---- the end

    @property
    def _status(self) -> int:
        return self._head.status if self._head is not None else HTTPStatus.INTERNAL_SERVER_ERROR.value

    def _fail(self, error: BaseException) -> bytes:
        """Return the response to an error of the application. A SystemExit also ends only the request."""
        FORKS.end_if_fork(error)
        if isinstance(error, ClientGone):
            self.failed = True
            return b""
        self._report(f"raised\n{application_traceback(error, or_ours=True)}")
        if self.started:
            self.failed = True
            return b""
        self._head, body = refusal_response(application_failed())
        mark(self._head, self._asked.returned_id)
        return self._whole(self._head, body)

    def _check_length(self, encoder: Encoder) -> None:
        if encoder.missing:
            self.failed = True
            self._report(f"sent {encoder.missing} bytes less than its Content-Length")
        elif encoder.excess:
            self._report(f"sent {encoder.excess} bytes more than its Content-Length")

    def _report(self, what: str) -> None:
        self._service.report(f"the application {what}", self._asked)


def _checked(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise unfit("the response's body", data, "bytes")
    return data


def _raise(exc_info: object) -> None:
    """Raise the exception of `sys.exc_info()`, if it has one."""
    if not isinstance(exc_info, tuple) or len(exc_info) != 3:
        raise unfit("start_response: exc_info", exc_info, "what sys.exc_info() returns")
    error = exc_info[1]
    if isinstance(error, BaseException):
        raise error.with_traceback(exc_info[2])
