"""The WSGI adapter (PEP 3333): calls the application in a thread, or on the loop, and sends what it returns."""

import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from io import BytesIO
from types import TracebackType
from typing import Any

from clusterd.http.body import BodyReader
from clusterd.http.call import Phase
from clusterd.http.connection import Connection
from clusterd.http.environ import EnvironMaker
from clusterd.http.mailbox import Mailbox
from clusterd.http.ports import Log
from clusterd.http.refusal import Refusal
from clusterd.http.response import Encoder, ResponseHead, Stamp, refusal_response
from clusterd.http.settings import HttpSettings
from clusterd.http.threads import PoolThread, ThreadPool, ThreadState

WsgiApplication = Callable[..., Iterable[bytes]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

TURN_PIECES = 16
"""Pieces of a response that an application on the loop gives in a row, before other connections have their turn."""

AHEAD_BYTES = 64 * 1024
"""How much an application may have given beyond what the client's connection has taken."""

_NO_BODY = BytesIO()
"""What a request without a body reads from: one for all, since nothing in it moves."""


class ClientGone(Exception):
    """Raised into the application's write() when nobody reads any more."""


class WsgiAdapter:
    """Turns requests into calls."""

    def __init__(
        self,
        application: WsgiApplication,
        settings: HttpSettings,
        log: Log,
        stamp: Stamp,
        mailbox: Mailbox,
        pool: ThreadPool | None,
    ) -> None:
        self.application = application
        self.stamp = stamp
        self.mailbox = mailbox
        self.pool = pool
        self._log = log
        self._environs = EnvironMaker(settings.root_path, settings.threads)
        self._queue_timeout = settings.timeouts.queue

    def answer(self, connection: Connection) -> None:
        """Call the application for the request of `connection`, or refuse it when too many wait."""
        if self.pool is None:
            loop_call = LoopCall(self, connection)
            connection.call = loop_call
            loop_call.resume()
            return
        call = ThreadCall(self, connection)
        connection.call = call
        if not self.pool.submit(call):
            connection.refuse(_busy("too many requests wait"))

    def environ(self, connection: Connection, note_progress: Callable[[], None]) -> dict[str, Any]:
        """The environ of the request of `connection`."""
        head, body = connection.head, connection.body
        assert head is not None
        reader = BodyReader(_NO_BODY if body is None else body.file, note_progress)
        return self._environs.make(head, body, reader, connection.peer, connection.local, connection.scheme)

    def tick(self, now: float) -> None:
        """Refuse what has waited for a thread for too long."""
        if self.pool is not None:
            for call in self.pool.withdraw_older(now - self._queue_timeout):
                if isinstance(call, ThreadCall):
                    call.refuse(_busy("no thread was free in time"))

    def report(self, message: str) -> None:
        """Log an error; from any thread."""
        self.mailbox.post(self._log.error, message)


def _busy(reason: str) -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason)


class Exchange:
    """One call of the application, as an iterator over the bytes to send; the same in a thread and on the loop."""

    def __init__(self, adapter: WsgiAdapter, connection: Connection) -> None:
        request = connection.head
        assert request is not None
        self._adapter = adapter
        self._request = request
        self._connection = connection
        self._body = connection.body
        self._encoder = Encoder(request, persistent=True)
        self._head: ResponseHead | None = None
        self.environ = adapter.environ(connection, self.note_progress)
        self.started = False
        """Whether anything was given to be sent."""
        self.failed = False
        """Whether the response is incomplete, so that the connection has to be closed."""

    @property
    def status(self) -> int:
        """The status of the response; 500 when there is none."""
        return self._head.status if self._head is not None else HTTPStatus.INTERNAL_SERVER_ERROR.value

    @property
    def persistent(self) -> bool:
        """Whether the connection can go on after this response."""
        return self._encoder.persistent and not self.failed

    def release(self) -> None:
        """Nobody reads the body any more."""
        if self._body is not None:
            self._body.close()

    def note_progress(self) -> None:
        """The application called into the server."""

    def write(self, data: bytes) -> None:
        """Send at once: what start_response returns."""
        raise NotImplementedError

    def produce(self) -> Iterator[bytes]:
        """Run the application; its errors become a 500, or an incomplete response."""
        try:
            yield from self._run()
        except ClientGone:
            self.failed = True
        except (GeneratorExit, KeyboardInterrupt):
            raise
        except BaseException:  # SystemExit too: a request ends its own life only
            self._adapter.report(f"{self._describe()} raised\n{traceback.format_exc().rstrip()}")
            if self.started:
                self.failed = True
            else:
                yield self._internal_error()

    def _run(self) -> Iterator[bytes]:
        result = self._adapter.application(self.environ, self._start_response)
        try:
            if type(result) is list and len(result) == 1 and not self.started:
                yield self._whole(self._head_now(), _checked(result[0]))
            else:
                for chunk in result:
                    self.note_progress()
                    yield self._encode(_checked(chunk)) if chunk else b""  # also nothing gives others a turn
                    if self.started and self._encoder.satisfied:
                        break
                yield self._end()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        self._check_length()

    def _encode(self, data: bytes) -> bytes:
        if self.started:
            return self._encoder.more(data)
        head = self._head_now()
        self._start()
        return self._encoder.start(head, self._adapter.stamp, data)

    def _end(self) -> bytes:
        return self._encoder.end() if self.started else self._whole(self._head_now(), b"")

    def _whole(self, head: ResponseHead, body: bytes) -> bytes:
        self._start()
        return self._encoder.whole(head, self._adapter.stamp, body)

    def _start(self) -> None:
        """Now, and not when the request came: a drain that began meanwhile wants `Connection: close`."""
        self.started = True
        self._encoder.persistent = self._connection.persistent

    def _head_now(self) -> ResponseHead:
        if self._head is None:
            raise AssertionError("the application returned a body without calling start_response")
        return self._head

    def _start_response(
        self, status: str, headers: Sequence[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        self.note_progress()
        try:
            if exc_info is not None:
                if self.started and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            elif self._head is not None:
                raise AssertionError("start_response was called twice without exc_info")
        finally:
            exc_info = None  # PEP 3333: a traceback kept here would be a circular reference
        self._head = ResponseHead(status, headers)
        return self._write_now

    def _write_now(self, data: bytes) -> None:
        self.note_progress()
        self.write(self._encode(_checked(data)))

    def _internal_error(self) -> bytes:
        refusal = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed; its log says why")
        self._head, body = refusal_response(refusal)
        return self._whole(self._head, body)

    def _check_length(self) -> None:
        if self._encoder.missing:
            self.failed = True
            self._adapter.report(f"{self._describe()} sent {self._encoder.missing} bytes less than its Content-Length")
        elif self._encoder.excess:
            self._adapter.report(f"{self._describe()} sent {self._encoder.excess} bytes more than its Content-Length")

    def _describe(self) -> str:
        return f"the application, for {self._request.method} {self._request.target},"


def _checked(data: object) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"the application returned {type(data).__name__} where bytes belong")
    return data


class LoopCall(Exchange):
    """A call on the event loop (`threads: 0`): pulled whenever the client can take more."""

    def __init__(self, adapter: WsgiAdapter, connection: Connection) -> None:
        super().__init__(adapter, connection)
        self._over = False
        self._output = self.produce()
        self.phase = Phase.RUNNING

    def resume(self) -> None:
        """Go on while the client reads."""
        connection = self._connection
        for _ in range(TURN_PIECES):
            if self._over or not connection.writable:
                return
            data = next(self._output, None)
            if data is None:
                self._over = True
                connection.call = None
                _conclude(connection, self)
                return
            self.phase = Phase.SENDING
            connection.send(data)
        connection.yield_turn()

    def write(self, data: bytes) -> None:
        """Send what the application wrote; the loop can not wait for the client here."""
        if self._over:
            raise ClientGone
        self._connection.send(data)

    def disconnected(self) -> None:
        """Run the application's close()."""
        if not self._over:
            self._over = True
            self.failed = True
            self._output.close()  # type: ignore[attr-defined]
            self.release()


class ThreadCall(Exchange):
    """A call in a thread of the pool; the loop sends what the thread gives, and says when there is room."""

    def __init__(self, adapter: WsgiAdapter, connection: Connection) -> None:
        self._thread: PoolThread | None = None
        self._room = threading.Event()
        # Bytes: given by the thread, written to the connection, and read by the client as far as is known.
        self._given = 0
        self._written = 0
        self._taken = 0
        self._gone = False
        self.queued_at = 0.0
        super().__init__(adapter, connection)

    # ---- on the thread

    def run(self, thread: PoolThread) -> None:
        """Run the application; called by the pool."""
        self._thread = thread
        output = self.produce()
        try:
            for data in output:
                if data:
                    self.write(data)
                elif self._gone:
                    raise ClientGone
        except ClientGone:
            output.close()  # type: ignore[attr-defined]
        except BaseException:  # SystemExit and its like end a request, never a thread of the pool
            self._adapter.report(f"a request ended with\n{traceback.format_exc().rstrip()}")
            self.failed = True
        self._adapter.mailbox.post(self._ended)

    def note_progress(self) -> None:
        """The application called into the server."""
        if self._thread is not None:
            self._thread.note_progress()

    def write(self, data: bytes) -> None:
        """Have `data` sent, and wait while too much is on its way. Raises ClientGone."""
        thread = self._thread
        assert thread is not None
        if self._gone:
            raise ClientGone
        self._given += len(data)
        self._adapter.mailbox.post(self._send, data)
        while self._given - self._taken > AHEAD_BYTES and not self._gone:
            thread.state = ThreadState.WAITING_FOR_CLIENT
            self._room.wait()
            self._room.clear()
        thread.state = ThreadState.WORKING
        thread.note_progress()

    # ---- on the loop

    @property
    def phase(self) -> Phase:
        """How far the answer is."""
        if self._thread is None:
            return Phase.QUEUED
        return Phase.SENDING if self.started else Phase.RUNNING

    def _send(self, data: bytes) -> None:
        if self._gone:
            return
        self._connection.send(data)
        self._written += len(data)
        if self._connection.writable:
            self.resume()

    def _ended(self) -> None:
        if self._gone:
            self.release()
        else:
            self._gone = True
            self._connection.call = None
            _conclude(self._connection, self)

    def resume(self) -> None:
        """The client has taken everything that was sent."""
        self._taken = self._written
        self._room.set()

    def refuse(self, refusal: Refusal) -> None:
        """It never ran."""
        if not self._gone:
            self._connection.refuse(refusal)

    def disconnected(self) -> None:
        """Let the thread find out, and drop a call that still waits for one."""
        self._gone = True
        pool = self._adapter.pool
        if self._thread is None and pool is not None and pool.withdraw(self):
            self.release()
        self._room.set()


def _conclude(connection: Connection, exchange: Exchange) -> None:
    if exchange.failed:
        connection.break_off(exchange.status)
    else:
        connection.finish(exchange.status, persistent=exchange.persistent)
