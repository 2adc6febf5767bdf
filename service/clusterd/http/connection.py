"""One client's connection: requests out of bytes, one at a time and in order, with limits and timeouts."""

import asyncio
import socket
from enum import Enum, auto
from http import HTTPStatus
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, cast

from clusterd.http.body import Body
from clusterd.http.call import Call
from clusterd.http.carried import RESIDUAL_LIMIT, CarriedState
from clusterd.http.framing import CHUNKED, ChunkDecoder, body_length, client_persists, expects_continue
from clusterd.http.head import Head, find_end, parse_head, skip_empty_lines
from clusterd.http.refusal import Refusal
from clusterd.http.response import Encoder, refusal_response

if TYPE_CHECKING:
    from clusterd.http.engine import Engine

PIPELINE_LIMIT = 64 * 1024
"""Bytes held while an earlier request is answered; beyond it the client waits in the kernel."""

LINGER = 2.0
"""Seconds in which a client may still send after our last response. Closing a socket that holds unread bytes
would reset the connection, and destroy what the client has not read yet (RFC 9112 section 9.6)."""

CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a request whose client did not wait for the answer."""


class Stage(Enum):
    """Where a connection stands."""

    IDLE = auto()
    """Between requests, nothing read of the next."""
    HEAD = auto()
    """A part of a head was read."""
    BODY = auto()
    ANSWERING = auto()
    """The request is complete, its response is not."""
    FLUSHING = auto()
    """The response is complete, but the client has yet to read it; the next request waits."""
    DETACHED = auto()
    """Offered to another process: nothing is read or written."""
    LINGERING = auto()
    """The last response is out and our side closed: what the client still sends is dropped."""
    CLOSED = auto()


AT_REST = (Stage.IDLE, Stage.HEAD)


class Connection(asyncio.Protocol):
    """A connection, from its socket to the calls of the adapter; made by `Engine.adopt`."""

    __slots__ = (
        "_answer_by",
        "_begun",
        "_body",
        "_buffer",
        "_decoder",
        "_engine",
        "_half_closed",
        "_missing",
        "_pending_bytes",
        "_proceeding",
        "_reading",
        "_socket",
        "_transport",
        "call",
        "deadline",
        "head",
        "local",
        "peer",
        "request_started",
        "requests",
        "scheme",
        "stage",
        "writable",
    )

    def __init__(self, engine: "Engine", sock: socket.socket, carried: CarriedState | None) -> None:
        self._engine = engine
        self._socket = sock
        self._transport: asyncio.Transport
        self._buffer: bytes | bytearray = carried.residual if carried else b""
        self._body: Body | None = None
        self._decoder: ChunkDecoder | None = None
        self._missing = 0
        self._reading = True
        self._pending_bytes = 0
        self._answer_by = inf
        self._half_closed = False
        self._proceeding = False
        self._begun = False
        self.stage = Stage.IDLE
        self.call: Call | None = None
        self.head: Head | None = None
        self.deadline = inf
        """Engine time at which `expire` is due."""
        self.request_started = 0.0
        """Monotonic time of the end of the head of the request under way; 0.0 without one."""
        self.requests = carried.requests if carried else 0
        self.peer = carried.peer if carried else None
        self.local = carried.local if carried else None
        self.scheme = carried.scheme if carried else "http"
        self.writable = True
        """Whether all that was written has been taken by the kernel."""

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: read the first request, or go on with what came along."""
        self._transport = cast(asyncio.Transport, transport)
        # With a limit of 0, uvloop writes at once and pauses us only for what the kernel did not take: writable
        # means an empty buffer, which is what back pressure and a hand-over need to know.
        self._transport.set_write_buffer_limits(high=0)
        if self._socket.family != socket.AF_UNIX and self.local is None:
            # None where the client is gone already; reading will say so.
            self.peer = (transport.get_extra_info("peername") or ("", 0))[:2]
            self.local = (transport.get_extra_info("sockname") or ("", 0))[:2]
        self._engine.opened(self)
        self._rest()
        self.proceed()
        # uvloop starts reading after this call, whatever was paused in it: before that nothing may move.
        if self._engine.is_handing_over:
            self._engine.call_soon(self._begin)
        else:
            self._begun = True

    def _begin(self) -> None:
        self._begun = True
        if self.stage in AT_REST:
            self._engine.at_rest(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the current request or of those after it."""
        stage = self.stage
        if stage is Stage.IDLE:
            self._buffer = data
            self.proceed()
        elif stage is Stage.HEAD:
            self._buffer = bytearray(self._buffer) if isinstance(self._buffer, bytes) else self._buffer
            self._buffer += data
            self.proceed()
        elif stage is Stage.BODY:
            self.deadline = self._engine.now + self._engine.settings.timeouts.body
            self._receive_body(data)
        elif stage not in (Stage.LINGERING, Stage.CLOSED):
            self._buffer += data
            if len(self._buffer) > PIPELINE_LIMIT and self._reading:
                self._reading = False
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has closed its sending side: what it has asked for is still answered."""
        self._half_closed = True
        return self.stage in (Stage.ANSWERING, Stage.FLUSHING) or (
            self.stage is Stage.LINGERING and not self.writable  # closed when the last response is out
        )

    def connection_lost(self, _: Exception | None) -> None:
        """The client has gone, or `close` is through."""
        if self.stage is Stage.ANSWERING:
            self._engine.counters.request_done(CLIENT_CLOSED_REQUEST, monotonic() - self.request_started)
        self.stage = Stage.CLOSED
        self.deadline = inf
        self._drop_call()
        self._engine.closed(self)

    def pause_writing(self) -> None:
        """The kernel did not take everything: the client reads too slowly, or not at all."""
        self.writable = False
        self._pending_bytes = self._transport.get_write_buffer_size()
        self.deadline = min(self._answer_by, self._engine.now + self._engine.settings.timeouts.write)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.writable = True
        self.deadline = self._answer_by
        if self.stage is Stage.LINGERING:
            self.deadline = self._engine.now + LINGER
            if self._half_closed:
                self._transport.close()
        elif self.stage is Stage.FLUSHING:
            self._rest()
            self.proceed()
        elif self.stage is Stage.ANSWERING and self.call is not None:
            self.call.resume()

    # Requests.

    def proceed(self) -> None:
        """Take requests out of what was read, as long as each is answered at once."""
        if self._proceeding:
            return
        self._proceeding = True
        try:
            while self._buffer and self.stage in AT_REST:
                if self._buffer.startswith(b"\r\n"):
                    # Empty lines before a request are ignored (RFC 9112 section 2.2).
                    self._buffer = self._buffer[skip_empty_lines(self._buffer) :]
                    continue
                end = find_end(self._buffer, self._engine.settings.limits)
                if not end:
                    if self.stage is Stage.IDLE:
                        self.stage = Stage.HEAD
                        self.deadline = self._engine.now + self._engine.settings.timeouts.header
                    break
                self._begin_request(end)
        except Refusal as refusal:
            self.refuse(refusal)
        finally:
            self._proceeding = False
        if self._half_closed and self.stage in AT_REST:
            self.close()  # nothing that is still missing can come

    def _begin_request(self, end: int) -> None:
        """A head is complete. Raises Refusal."""
        limits = self._engine.settings.limits
        self.request_started = monotonic()
        rest = self._buffer[end:]
        self.head = head = parse_head(self._buffer[:end], limits)
        length = body_length(head, limits)
        waits = expects_continue(head)
        self._buffer = b""
        if length == 0:
            self._buffer = rest
            self._complete()
            return
        self.stage = Stage.BODY
        self.deadline = self._engine.now + self._engine.settings.timeouts.body
        self._missing = max(length, 0)
        try:
            self._body = Body(self._missing)
        except OSError as error:
            raise self._storage_failed(error) from error
        self._decoder = ChunkDecoder(self._body.write, limits) if length == CHUNKED else None
        if waits and not rest:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if rest:
            self._receive_body(rest)

    def _receive_body(self, data: bytes | bytearray) -> None:
        try:
            rest = self._take_body(bytes(data))
        except Refusal as refusal:
            self.refuse(refusal)
            return
        except OSError as error:
            self.refuse(self._storage_failed(error))
            return
        if rest is not None:
            self._buffer = rest
            self._complete()
            self.proceed()

    def _storage_failed(self, error: OSError) -> Refusal:
        self._engine.log.error(f"a request's body can not be stored: {error}")
        return Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "the body can not be stored")

    def _take_body(self, data: bytes) -> bytes | None:
        """What follows the body once it is complete, None before. Raises Refusal and OSError."""
        body = cast(Body, self._body)
        if self._decoder is not None:
            rest = self._decoder.feed(data)
        else:
            piece = data[: self._missing]
            body.write(piece)
            self._missing -= len(piece)
            rest = None if self._missing else data[len(piece) :]
        if rest is not None:
            body.rewind()
        return rest

    def _complete(self) -> None:
        """The request is here as a whole: have it answered."""
        self.stage = Stage.ANSWERING
        timeout = self._engine.settings.timeouts.request
        self._answer_by = self.deadline = inf if timeout is None else self._engine.now + timeout
        self.requests += 1
        self._engine.answer(self)

    @property
    def body(self) -> Body | None:
        """The body of the request under way; None when it has none."""
        return self._body

    @property
    def persistent(self) -> bool:
        """Whether the connection may go on after the response to the request under way."""
        return (
            self.head is not None
            and client_persists(self.head)
            and (not self._half_closed or bool(self._buffer))  # what it sent before is still answered
            and not self._engine.is_closing
        )

    # Responses: called by the adapter, and for refusals.

    def send(self, data: bytes) -> None:
        """Send a part of the response."""
        if data and self.stage is Stage.ANSWERING:
            self._transport.write(data)

    def yield_turn(self) -> None:
        """Call `resume` again when other connections have had their turn."""
        self._engine.call_soon(self._resume_call)

    def _resume_call(self) -> None:
        if self.stage is Stage.ANSWERING and self.writable and self.call is not None:
            self.call.resume()

    def finish(self, status: int, *, persistent: bool) -> None:
        """The response to the request under way has been sent as a whole."""
        if self.stage is not Stage.ANSWERING:
            return
        self._account(status)
        self._answer_by = inf
        if not persistent or (self._half_closed and not self._buffer) or self._engine.is_closing:
            self._close_politely()
        elif self.writable:
            self._rest()
            self.proceed()
        else:
            self.stage = Stage.FLUSHING

    def break_off(self, status: int) -> None:
        """The response can not be completed: only closing tells the client so."""
        if self.stage is Stage.ANSWERING:
            self._account(status)
            self._close_politely()

    def refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close: what follows may be anything."""
        self._drop_call()
        self.stage = Stage.ANSWERING
        self._answer_by = self.deadline = inf
        if not self.request_started:
            self.request_started = monotonic()
        request = self.head or Head("GET", "/", 1, {})
        response, body = refusal_response(refusal)
        self.send(Encoder(request, persistent=False).whole(response, self._engine.stamp, body))
        self.finish(refusal.status.value, persistent=False)

    def _account(self, status: int) -> None:
        seconds = monotonic() - self.request_started
        self._engine.counters.request_done(status, seconds)
        self._engine.log_access(self, status, seconds)

    def _rest(self) -> None:
        """Wait for the next request; what was read of it already comes next."""
        self._drop_call()
        self.head = None
        self.request_started = 0.0
        self._answer_by = inf
        self.stage = Stage.IDLE
        self.deadline = self._engine.now + self._engine.settings.timeouts.keepalive
        self._read_on()
        self._engine.at_rest(self)

    def _drop_call(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            # A thread may be reading the body: it is closed when the last reader lets go of it.
            call.disconnected()
        elif self._body is not None:
            self._body.close()
        self._body = None
        self._decoder = None

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    # The end.

    def _close_politely(self) -> None:
        """Close our side, and let the client read the last response before the rest is closed."""
        self._drop_call()
        self._buffer = b""
        if self._half_closed and self.writable:
            self.close()
            return
        self.stage = Stage.LINGERING
        self.deadline = self._engine.now + (LINGER if self.writable else self._engine.settings.timeouts.write)
        self._read_on()
        self._transport.write_eof()

    def close(self) -> None:
        """Close when all that was written is out."""
        self.stage = Stage.LINGERING
        self.deadline = self._engine.now + LINGER
        self._transport.close()

    def close_if_idle(self) -> None:
        """Close a connection on which no request is under way."""
        if self.stage in AT_REST:
            self._close_politely()

    def abort(self) -> None:
        """Drop the connection whatever is under way."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """The deadline has come."""
        self.deadline = inf
        match self.stage:
            case Stage.IDLE:
                self._close_politely()
            case Stage.HEAD | Stage.BODY:
                self._engine.counters.request_timed_out()
                self.refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time"))
            case Stage.ANSWERING if now >= self._answer_by:
                self._engine.counters.request_timed_out()
                self._answer_late()
            case Stage.ANSWERING | Stage.FLUSHING:
                self._check_reader(now)
            case Stage.LINGERING if not self.writable:
                self._check_reader(now)
            case Stage.LINGERING:
                self.abort()

    def _answer_late(self) -> None:
        """timeouts.request is over: 504 where nothing has been sent."""
        if self.call is not None and self.call.started:
            self.break_off(HTTPStatus.GATEWAY_TIMEOUT.value)
        else:
            self.refuse(Refusal(HTTPStatus.GATEWAY_TIMEOUT, "the application did not answer in time"))

    def _check_reader(self, now: float) -> None:
        """Drop a client that has not read a byte for timeouts.write."""
        pending = self._transport.get_write_buffer_size()
        if pending < self._pending_bytes:
            self._pending_bytes = pending
            self.deadline = min(self._answer_by, now + self._engine.settings.timeouts.write)
        else:
            self._engine.counters.request_timed_out()
            self.abort()

    # Hand-over.

    @property
    def movable(self) -> bool:
        """Whether another process can take the connection over: between requests, with everything written out."""
        return self._begun and self.stage in AT_REST and self.writable and len(self._buffer) <= RESIDUAL_LIMIT

    def detach(self) -> CarriedState:
        """Stop reading, and say what has to travel with the descriptor. Raises RuntimeError when not movable."""
        if not self.movable:
            raise RuntimeError("the connection can not move now")
        if self._reading:
            self._reading = False
            self._transport.pause_reading()
        self.stage = Stage.DETACHED
        self.deadline = inf
        return CarriedState(bytes(self._buffer), self.peer, self.local, self.scheme, self.requests)

    def fileno(self) -> int:
        """The descriptor to send."""
        return cast(int, self._transport.get_extra_info("socket").fileno())

    def release(self) -> None:
        """Another process has acknowledged: drop our copy. Closing a copy sends nothing to the client."""
        self._transport.abort()

    def resume(self) -> None:
        """The hand-over came to nothing: go on here."""
        if self.stage is Stage.DETACHED:
            self.stage = Stage.IDLE
            self.deadline = self._engine.now + self._engine.settings.timeouts.keepalive
            self._read_on()
            self._engine.at_rest(self)
            self.proceed()
