"""The last moment of a drain: what is on its way to another worker by then."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clusterd.http.engine import Connection
from clusterd.wire.passing import Answer
from clusterd.worker.drain import ANSWERS_SECONDS, Drain, Orders
from clusterd.worker.handover import Sender
from tests.process.serving import Serving, request, serving, wait_until

DEADLINE = 1000.0
OVER = DEADLINE + ANSWERS_SECONDS


def hello(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


class Leaving:
    """A server whose only client is on its way to a successor, which has not answered yet: the test plays it."""

    def __init__(self, server: Serving, successor: socket.socket, drain: Drain) -> None:
        self.server = server
        self.successor = successor
        self._drain = drain

    def finished(self, now: float) -> bool:
        over: bool = self.server.on_loop(lambda: self._drain.finished(now))
        return over

    def answer(self) -> None:
        self.successor.send(Answer(1).encode())


@contextmanager
def leaving() -> Iterator[Leaving]:
    drains: list[Drain] = []

    def move(connection: Connection) -> None:
        drains[0].connection_at_rest(connection)

    successor, pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with successor, serving(hello, on_movable=move) as server:
        orders = Orders(DEADLINE, idle_seconds=2000.0, linger=False)
        log: Any = server.ledger

        def begin() -> Drain:
            sender = Sender(pair, server.loop, lambda: None, lambda: None)
            drains.append(Drain(server.engine, sender, orders, log, now=0.0))
            drains[0].begin()
            return drains[0]

        with server.client() as client:
            assert client.get().body == b"hello"
            left = Leaving(server, successor, server.on_loop(begin))
            client.send(request())
            yield left
            server.on_loop(drains[0].end)


def test_a_successor_has_a_moment_more_to_take_what_it_was_offered() -> None:
    with leaving() as left:
        for now in (DEADLINE - 1, DEADLINE, OVER - 0.01):
            assert not left.finished(now)
        left.answer()
        wait_until(lambda: left.finished(OVER - 0.01))
        assert left.server.ledger.warnings == []


def test_what_it_does_not_take_is_cut_and_in_the_log() -> None:
    with leaving() as left:
        assert left.finished(OVER)
        ((message, fields),) = left.server.ledger.warnings
        assert "no worker has taken it over" in message
        assert fields["reason"] == "drain_timeout"
        assert str(fields["peer"]).startswith("127.0.0.1:")
