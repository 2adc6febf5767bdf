"""What the engine does with a connection whose deadline has passed."""

from http import HTTPStatus

from clusterd.http.connections.connection import Connection
from clusterd.http.connections.stage import Stage
from clusterd.http.messages.refusal import Refusal

_AWAITING = (Stage.IDLE, Stage.PREFACE, Stage.HEAD, Stage.BODY)
"""Stages in which the connection waits only for bytes of the client."""


def expire(connection: Connection, now: float) -> None:
    """Close the connection or refuse its request, depending on its stage. `now` is time.monotonic()."""
    if connection.stage in _AWAITING and connection.unread:
        return  # This process was late. The awaited bytes may be here and are read in the loop's next round.
    match connection.stage:
        case Stage.IDLE:
            connection.note_timeout("keepalive")
            connection.close_politely()
        case Stage.PREFACE:
            connection.note_timeout("header")
            connection.close()
        case Stage.HEAD:
            connection.note_timeout("header")
            connection.refuse(_too_slow())
        case Stage.BODY:
            connection.note_timeout("request" if connection.deadline.answer_over(now) else "body")
            connection.refuse(_too_slow())
        case Stage.TUNNEL if connection.writable and connection.tunnel is not None:
            connection.tunnel.expire()
        case Stage.ANSWERING if connection.deadline.answer_over(now):
            connection.note_timeout("request")
            _answer_late(connection)
        case Stage.LINGERING if connection.writable:
            connection.abort()
        case Stage.ANSWERING | Stage.SKIPPING if connection.writable:
            connection.note_timeout("body")
            connection.refuse_late(_too_slow())
        case Stage.ANSWERING | Stage.SKIPPING | Stage.FLUSHING | Stage.TUNNEL | Stage.LINGERING:
            _judge_reader(connection)


def _too_slow() -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")


def _answer_late(connection: Connection) -> None:
    """timeouts.request has passed. Answer with 504 if nothing has been sent, and end the call if that is possible."""
    call = connection.call
    connection.refuse_late(Refusal(HTTPStatus.GATEWAY_TIMEOUT, "the application did not answer in time"))
    if call is not None:
        call.cancel()


def _judge_reader(connection: Connection) -> None:
    """Drop a client that has not read a byte for timeouts.write."""
    if connection.has_reader_moved():
        connection.deadline.await_client_read()
    else:
        connection.note_timeout("write")
        connection.give_up("the client has read nothing for timeouts.write")
