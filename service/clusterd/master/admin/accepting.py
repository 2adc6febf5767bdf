"""Accept connections on the master's own listening sockets: the metrics endpoint and the control socket."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from clusterd.log import Logger

ACCEPTS_PER_TURN = 16
PAUSE_SECONDS = 1.0


class Accepting:
    """Accepts on non-blocking sockets that already listen. The caller closes them. `what` names them in the log.

    asyncio's servers are not used: they would call listen() again on sockets that systemd has opened.
    """

    def __init__(
        self, what: str, listeners: Sequence[socket.socket], accepted: Callable[[socket.socket], None], log: Logger
    ) -> None:
        self._what = what
        self._listeners = tuple(listeners)
        self._accepted = accepted
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pauses: set[asyncio.TimerHandle] = set()

    def start(self) -> None:
        """Begin to accept, the first time on the running loop. The loop need not run when it begins again."""
        self._loop = self._loop or asyncio.get_running_loop()
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Stop accepting."""
        for listener in self._listeners:
            if self._loop is not None:
                self._loop.remove_reader(listener)
        for pause in self._pauses:
            pause.cancel()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # Descriptors or memory have run out. The listener stays readable, so the loop would spin.
                self._pause(listener, error)
                return
            connection.setblocking(False)
            self._accepted(connection)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        loop = self._loop or asyncio.get_running_loop()
        self._log.warning(f"{self._what} cannot accept", reason=error.strerror, retry_in=PAUSE_SECONDS)
        loop.remove_reader(listener)

        def resume() -> None:
            self._pauses.discard(pause)
            loop.add_reader(listener, self._accept, listener)

        pause = loop.call_later(PAUSE_SECONDS, resume)
        self._pauses.add(pause)
