"""A successor that is lost in the middle of a hand-over: what it has not acknowledged is served on."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uvloop

from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.log import Logger, open_sink
from clusterd.wire.packets import socketpair
from clusterd.wire.passing import Answer
from clusterd.worker.draining.drain import Drain, DrainLimits
from clusterd.worker.draining.handover import Sender
from tests.engine.test_handover_race import answer
from tests.support.serving import Ledger
from tests.support.settings import http_settings

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CONNECTIONS = 5


@dataclass
class Retiring:
    """A worker's engine in the middle of a hand-over; `clients` are its connections' other ends."""

    clients: list[socket.socket]
    successor: socket.socket
    is_lost: asyncio.Event
    drain: Drain

    async def are_answered(self) -> None:
        """Every client asks, and gets its answer."""
        loop = asyncio.get_running_loop()
        for client in self.clients:
            await loop.sock_sendall(client, REQUEST)
            assert (await asyncio.wait_for(loop.sock_recv(client, 4096), 5)).startswith(b"HTTP/1.1 204")


async def retiring(then: Callable[[Retiring], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    are_open, is_lost = asyncio.Event(), asyncio.Event()
    drains: list[Drain] = []

    class Counting(Ledger):
        def connections_changed(self, count: int) -> None:
            if count == CONNECTIONS:
                are_open.set()

    def at_rest(connection: Connection) -> None:
        drains[0].connection_at_rest(connection)

    ledger = Counting()
    engine = Engine(answer, http_settings(threads=0), ledger, ledger, loop, Callbacks(on_movable=at_rest))
    clients = []
    for _ in range(CONNECTIONS):
        client, server = socket.socketpair()
        client.setblocking(False)
        engine.adopt(server)
        clients.append(client)
    await asyncio.wait_for(are_open.wait(), 5)
    ours, theirs = socketpair()

    def successor_lost() -> None:
        drains[0].successor_lost()
        is_lost.set()

    sender = Sender(ours, loop, lambda: None, successor_lost)
    limits = DrainLimits(time.monotonic() + 60, 60, linger=False)
    drains.append(Drain(engine, sender, limits, Logger(open_sink(os.environ)), time.monotonic()))
    drains[0].begin()
    state = Retiring(clients, theirs, is_lost, drains[0])
    await then(state)
    await state.are_answered()
    for sock in (*clients, theirs):
        sock.close()
    engine.abort()
    await asyncio.sleep(0)


async def dies(state: Retiring) -> None:
    state.successor.close()
    await asyncio.wait_for(state.is_lost.wait(), 5)


async def answers_nonsense(state: Retiring) -> None:
    state.successor.send(b"nonsense")
    await asyncio.wait_for(state.is_lost.wait(), 5)


async def answers_for_what_was_not_offered(state: Retiring) -> None:
    state.successor.send(Answer(CONNECTIONS + 1).encode())
    await asyncio.wait_for(state.is_lost.wait(), 5)


async def new_orders(state: Retiring) -> None:
    """The worker is told to serve on, or to stop without a successor."""
    state.drain.end()


@pytest.mark.parametrize("then", [dies, answers_nonsense, answers_for_what_was_not_offered, new_orders])
def test_unacknowledged_connections_are_served_on(then: Callable[[Retiring], Awaitable[None]]) -> None:
    uvloop.run(retiring(then))


def test_a_sender_that_is_closed_when_it_learns_of_the_loss_ends_once() -> None:
    """As the sharing of connections does: the other worker may be gone before it is over."""

    async def learn() -> list[object]:
        loop = asyncio.get_running_loop()
        faults: list[object] = []
        loop.set_exception_handler(lambda _, context: faults.append(context))
        ours, theirs = socketpair()
        is_lost = asyncio.Event()

        def lost() -> None:
            sender.close()
            is_lost.set()

        sender = Sender(ours, loop, lambda: None, lost)
        theirs.close()
        await asyncio.wait_for(is_lost.wait(), 5)
        await asyncio.sleep(0)
        return faults

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(learn()) == []
