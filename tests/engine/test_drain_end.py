"""The last moment of a drain: what is on its way to another worker by then."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from clusterd.http.engine import Connection
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.packets import receive
from clusterd.wire.passing import Answer, Decline, Offer
from clusterd.worker.draining.drain import ANSWERS_SECONDS, Drain, DrainLimits
from clusterd.worker.draining.handover import Sender
from tests.support.serving import Serving, request, serving, wait_until

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

    def comes(self, sock: socket.socket, carried: CarriedState, now: float) -> bool:
        """Have a connection taken over from another worker at this moment, and say whether the drain is finished."""

        def adopt() -> bool:
            self.server.engine.adopt(sock, carried)
            return self._drain.finished(now)

        over: bool = self.server.on_loop(adopt)
        return over

    def answer(self, number: int = 1) -> None:
        self.successor.send(Answer(number).encode())


@contextmanager
def leaving() -> Iterator[Leaving]:
    drains: list[Drain] = []

    def move(connection: Connection) -> None:
        drains[0].connection_at_rest(connection)

    successor, pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with successor, serving(hello, on_movable=move) as server:
        limits = DrainLimits(DEADLINE, idle_seconds=2000.0, linger=False)
        log: Any = server.ledger

        def lost() -> None:
            drains[0].successor_lost()

        def begin() -> Drain:
            sender = Sender(pair, server.loop, lambda: None, lost)
            drains.append(Drain(server.engine, sender, limits, log, now=0.0))
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


def test_what_has_only_just_come_has_that_moment_too() -> None:
    """Another worker has handed it over: no part of its request may be lost between two processes."""
    ours, theirs = socket.socketpair()
    with leaving() as left, ours:
        left.answer()
        wait_until(lambda: not left.server.engine.connections)
        assert not left.comes(theirs, CarriedState(request()[:10], ("192.0.2.1", 4711), None, "http", 1), DEADLINE)
        first, second = (receive(left.successor) for _ in range(2))
        assert first is not None and second is not None
        assert CarriedState.from_json(Offer.decode(second.data).carried).residual == request()[:10]
        for packet in (first, second):
            for descriptor in packet.descriptors:
                os.close(descriptor)


def test_one_that_has_lost_its_successor_waits_for_another() -> None:
    with leaving() as left:
        left.successor.close()
        wait_until(lambda: left.server.ledger.done == [200, 200])  # it goes on here
        assert not left.finished(DEADLINE)
        assert left.finished(OVER)
        assert [message for message, _ in left.server.ledger.warnings if "no worker has taken it over" in message]


def test_an_acknowledgement_after_a_refusal_counts() -> None:
    """The successor serves that connection: two processes would read it."""
    ours, theirs = socket.socketpair()
    with leaving() as left, ours:
        left.comes(theirs, CarriedState(b"", ("192.0.2.1", 4711), None, "http", 1), DEADLINE - 1)
        wait_until(lambda: len(left.server.engine.connections) == 2)
        packets = [receive(left.successor) for _ in range(2)]

        def answer_both() -> None:
            left.successor.send(Answer(1, Decline.NO_DESCRIPTOR).encode())
            left.answer(2)

        left.server.on_loop(answer_both)
        wait_until(lambda: len(left.server.engine.connections) == 1)
        wait_until(lambda: left.server.ledger.done == [200, 200])
        for packet in packets:
            assert packet is not None
            for descriptor in packet.descriptors:
                os.close(descriptor)
