"""A call of the application on the event loop (`threads: 0`), which it does not see (hidden_loop.py)."""

from time import monotonic

from clusterd.http.call import CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.hidden_loop import IS_SHOWN, unseen
from clusterd.http.wsgi.exchange import ClientGone, Exchange, Output, Service
from clusterd.log.current_request import REQUEST_ID

TURN_PIECES = 16
"""Maximum pieces of a response that are taken in a row before other connections have their turn."""

MOST_UNSENT = 64 << 20
"""Maximum bytes that `write` keeps for a client that does not read."""


class LoopCall(Exchange):
    """Takes pieces from the application whenever the client can take more."""

    __slots__ = ("_output", "_over", "_waits_since", "phase")

    def __init__(self, service: Service, connection: Connection) -> None:
        super().__init__(service, connection)
        self._over = False
        self._output: Output | None = None
        self.phase = CallPhase.RUNNING
        self._waits_since = 0.0
        """Since when the client has to read before more is sent; 0 if it does not."""

    def run(self) -> None:
        """Call the application, and send what is available at once."""
        if IS_SHOWN:
            unseen(self._run)
        else:
            self._run()

    def resume(self) -> None:
        """Continue to send while the client reads."""
        if IS_SHOWN:
            unseen(self._resume)
        else:
            self._resume()

    def disconnected(self) -> None:
        """Give up the call, and run the application's close()."""
        if IS_SHOWN:
            unseen(self._disconnected)
        else:
            self._disconnected()

    def _run(self) -> None:
        self._asked.waited = 0.0
        if self._asked.id:
            REQUEST_ID.set(self._asked.id)
        output = self.begin()
        if isinstance(output, bytes):
            self._connection.send(output)
            self._end()
        else:
            self._output = output
            self._resume()

    def _resume(self) -> None:
        connection = self._connection
        for _ in range(TURN_PIECES):
            if self._over or self._output is None:
                return
            if not connection.writable:
                self._waits_since = self._waits_since or monotonic()
                return
            if self._waits_since:
                self._asked.on_client += monotonic() - self._waits_since
                self._waits_since = 0.0
            if self._asked.id:
                REQUEST_ID.set(self._asked.id)
            data = next(self._output, None)
            if data is None:
                self._end()
                return
            self.phase = CallPhase.SENDING
            if isinstance(data, bytes):
                connection.send(data)
            else:
                connection.send_file(data)
        connection.yield_turn()

    @property
    def runs_in(self) -> object:
        """None: the event loop."""
        return None

    @property
    def is_running(self) -> bool:
        """Whether the application's call goes on."""
        return not self._over

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

    def _disconnected(self) -> None:
        if not self._over:
            self._over = True
            if self._output is not None:
                token = REQUEST_ID.set(self._asked.id or None)
                self.abandon(self._output)
                REQUEST_ID.reset(token)
            self.release()
