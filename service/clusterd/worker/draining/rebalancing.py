"""Rebalancing: a serving worker hands over some of its connections to other workers on the master's order."""

import asyncio
import socket
from collections.abc import Callable

from clusterd.http.engine import Connection, Engine
from clusterd.worker.draining.handover import Sender


class _Share:
    """The connections that one other worker should get."""

    def __init__(self, connections: int) -> None:
        self.left = connections
        self.sender: Sender
        self.ends: asyncio.TimerHandle


class Sharing:
    """Hands over connections to any number of workers at a time. Each share ends on its own. `on_moved` is called for
    each connection that another worker has acknowledged.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, on_moved: Callable[[], None]) -> None:
        self._engine = engine
        self._loop = loop
        self._on_moved = on_moved
        self._shares: list[_Share] = []

    def share(self, connections: int, seconds: float, sock: socket.socket) -> None:
        """Hand over up to `connections` connections over `sock`, those that come to rest within `seconds`."""
        share = _Share(connections)
        share.sender = Sender(sock, self._loop, self._on_moved, lambda: self._end(share))
        share.ends = self._loop.call_later(seconds, self._end, share)
        self._shares.append(share)
        self._give()

    def pass_on(self, connection: Connection) -> None:
        """Hand over a connection that the engine has selected."""
        for share in self._shares:
            if share.left:
                share.left -= 1
                share.sender.pass_on(connection)
                return

    def end(self) -> None:
        """End all shares. Connections that are not acknowledged stay here."""
        while self._shares:
            self._end(self._shares[-1])

    def _give(self) -> None:
        self._engine.retirement.give(sum(share.left for share in self._shares))

    def _end(self, share: _Share) -> None:
        if share not in self._shares:
            return
        self._shares.remove(share)
        share.ends.cancel()
        self._give()
        share.sender.close()
