"""A connection that moves on the moment it arrives: what travels with it, and what is left to read."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.http.settings import HttpSettings
from clusterd.wire.connection_state import CarriedState
from tests.support.serving import Ledger


async def move_on(
    application: Callable[..., Any], settings: HttpSettings, server: socket.socket, arriving: CarriedState | None
) -> tuple[CarriedState, bytes]:
    """Adopt a connection while handing over; what travels with it, and what the next process would read."""
    loop = asyncio.get_running_loop()
    moved: asyncio.Future[tuple[CarriedState, bytes]] = loop.create_future()

    def move(connection: Connection) -> None:
        carried = connection.detach()
        successor = socket.socket(fileno=os.dup(connection.fileno()))
        loop.call_later(0.05, finish, connection, carried, successor)

    def finish(connection: Connection, carried: CarriedState, successor: socket.socket) -> None:
        # Whatever this process would have read by mistake is missing here.
        connection.release()
        with successor:
            try:
                rest = successor.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                rest = b""
            moved.set_result((carried, rest))

    ledger = Ledger()
    engine = Engine(application, settings, ledger, ledger, loop, Callbacks(on_movable=move))
    engine.retirement.hand_over()
    engine.adopt(server, arriving)
    return await moved
