"""How a worker that serves lets others have some of its connections, as the master asks it to."""

import asyncio
import socket
from collections.abc import Callable

from clusterd.http.engine import Connection, Engine
from clusterd.worker.draining.handover import Sender


class _Share:
    """What one other worker is to have."""

    def __init__(self, connections: int) -> None:
        self.left = connections
        self.sender: Sender
        self.ends: asyncio.TimerHandle


class Sharing:
    """Several others may be given something at the same time; each share ends by itself. `on_moved` is called for each
    connection that another has.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, on_moved: Callable[[], None]) -> None:
        self._engine = engine
        self._loop = loop
        self._on_moved = on_moved
        self._shares: list[_Share] = []

    def share(self, connections: int, seconds: float, sock: socket.socket) -> None:
        """Pass so many connections on over `sock`, as they come to rest within so many seconds."""
        share = _Share(connections)
        share.sender = Sender(sock, self._loop, self._on_moved, lambda: self._end(share))
        share.ends = self._loop.call_later(seconds, self._end, share)
        self._shares.append(share)
        self._give()

    def pass_on(self, connection: Connection) -> None:
        """The engine has one of those that are to be given."""
        for share in self._shares:
            if share.left:
                share.left -= 1
                share.sender.pass_on(connection)
                return

    def end(self) -> None:
        """Give nothing more; what is not acknowledged stays."""
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
