"""What becomes of a connection whose deadline has come."""

from http import HTTPStatus

from clusterd.http.connections.connection import Connection
from clusterd.http.connections.stage import Stage
from clusterd.http.messages.refusal import Refusal
from clusterd.http.ports import Counters

_AWAITING = (Stage.IDLE, Stage.PREFACE, Stage.HEAD, Stage.BODY)
"""The client is to send something, and nothing else is waited for."""


def expire(connection: Connection, counters: Counters, now: float) -> None:
    """Act on it, by what was waited for; `connection.deadline` is due at `now` (time.monotonic)."""
    if connection.stage in _AWAITING and connection.unread:
        return  # what is waited for may be here, and is read in the loop's next round: this process was late
    match connection.stage:
        case Stage.IDLE:
            connection.close_politely()
        case Stage.PREFACE:
            counters.request_timed_out()
            connection.close()
        case Stage.HEAD | Stage.BODY:
            counters.request_timed_out()
            connection.refuse(_too_slow())
        case Stage.TUNNEL if connection.writable and connection.tunnel is not None:
            connection.tunnel.expire()
        case Stage.ANSWERING if connection.deadline.answer_over(now):
            counters.request_timed_out()
            _answer_late(connection)
        case Stage.LINGERING if connection.writable:
            connection.abort()
        case Stage.ANSWERING | Stage.SKIPPING if connection.writable:
            counters.request_timed_out()
            connection.refuse_late(_too_slow())
        case Stage.ANSWERING | Stage.SKIPPING | Stage.FLUSHING | Stage.TUNNEL | Stage.LINGERING:
            _judge_reader(connection, counters)


def _too_slow() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")


def _answer_late(connection: Connection) -> None:
    """timeouts.request is over: 504 where nothing has been sent, and an end for the call where that is possible."""
    call = connection.call
    connection.refuse_late(Refusal(HTTPStatus.GATEWAY_TIMEOUT, "the application did not answer in time"))
    if call is not None:
        call.cancel()


def _judge_reader(connection: Connection, counters: Counters) -> None:
    """Drop a client that has not read a byte for timeouts.write."""
    if connection.has_reader_moved():
        connection.deadline.reader()
    else:
        counters.request_timed_out()
        connection.abort()
