"""A call of the application on the event loop (`threads: 0`).

While the application has its turn, no loop runs as far as it can see. So it may run one of its own (`asyncio.run`,
asgiref's `async_to_sync`), and Django does not refuse its database.
"""

from asyncio import _set_running_loop

from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.transports.transfer import FileTransfer
from clusterd.http.wsgi.exchange import ClientGone, Exchange, Output, Service

TURN_PIECES = 16
"""Maximum pieces of a response that are taken in a row before other connections have their turn."""

MOST_UNSENT = 64 << 20
"""Maximum bytes that `write` keeps for a client that does not read."""


class LoopCall(Exchange):
    """Takes pieces from the application whenever the client can take more."""

    __slots__ = ("_output", "_over", "phase")

    def __init__(self, service: Service, connection: Connection) -> None:
        super().__init__(service, connection)
        self._over = False
        self._output: Output | None = None
        self.phase = CallPhase.RUNNING

    def run(self) -> None:
        """Call the application, and send what is available at once."""
        _set_running_loop(None)
        output = self.begin()
        _set_running_loop(self._service.mailbox.loop)
        if isinstance(output, bytes):
            self._connection.send(output)
            self._end()
        else:
            self._output = output
            self.resume()

    def resume(self) -> None:
        """Continue to send while the client reads."""
        connection = self._connection
        for _ in range(TURN_PIECES):
            if self._over or self._output is None or not connection.writable:
                return
            data = self._next(self._output)
            if data is None:
                self._end()
                return
            self.phase = CallPhase.SENDING
            if isinstance(data, bytes):
                connection.send(data)
            else:
                connection.send_file(data)
        connection.yield_turn()

    def _next(self, output: Output) -> bytes | FileTransfer | None:
        _set_running_loop(None)
        try:
            return next(output, None)
        finally:
            _set_running_loop(self._service.mailbox.loop)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._connection.call = None
            self.conclude()

    def write(self, data: bytes) -> None:
        """Send what the application has written. Raises ClientGone, or RuntimeError for a client that does not read:
        the loop cannot wait for it here.
        """
        if self._over:
            raise ClientGone
        if self._connection.unsent > MOST_UNSENT:
            raise RuntimeError(
                f"write() was given {MOST_UNSENT >> 20} MiB that the client has not read, and with threads: 0 nothing "
                "can wait for it: return an iterable, or set threads"
            )
        self._connection.send(data)

    def disconnected(self) -> None:
        """Give up the call, and run the application's close()."""
        if not self._over:
            self._over = True
            if self._output is not None:
                _set_running_loop(None)
                self.abandon(self._output)
                _set_running_loop(self._service.mailbox.loop)
            self.release()
