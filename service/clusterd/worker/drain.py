"""How a worker gets rid of its connections: to a successor, or by answering and closing them."""

from dataclasses import dataclass

from clusterd.http.engine import Connection, Engine
from clusterd.log import Logger
from clusterd.worker.handover import Sender

LAST_WORDS_SECONDS = 0.3
"""After the end of a drain: for the worker to say what it cut, and to have the application clean up. Then the master
kills it (`supervisor/deadlines.py`, which waits a little longer)."""

ANSWERS_SECONDS = 0.1
"""Of these, for what is on its way to another worker: its client may have asked already, and is not lost if that one
answers."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Times by time.monotonic, durations in seconds."""

    deadline: float
    idle_seconds: float
    linger: bool


class Drain:
    """One drain of one worker; new orders replace it by another."""

    def __init__(self, engine: Engine, sender: Sender | None, orders: Orders, log: Logger, now: float) -> None:
        self._engine = engine
        self._sender = sender
        self._orders = orders
        self._log = log
        self._began = self._last_busy = now

    def begin(self) -> None:
        """Move or close what can be moved or closed now; the rest follows as it comes to rest."""
        if self._sender is None:
            self._engine.retirement.close()
        else:
            self._engine.retirement.hand_over()

    def connection_at_rest(self, connection: Connection) -> None:
        """The engine has a connection that could move."""
        if self._sender is not None:
            self._sender.pass_on(connection)

    def finished(self, now: float) -> bool:
        """Enforce the times; True when the worker may leave.

        One that lingers may have to take its slot back: it stays, and nothing of it is cut before it is told to go.
        """
        if self._engine.is_idle:
            return not self._orders.linger
        if self._engine.in_flight:
            self._last_busy = now
        idle_since = now - self._orders.idle_seconds
        if self._sender is None:
            if self._last_busy <= idle_since:
                self._engine.retirement.close_idle()
        elif self._began <= idle_since:
            # What can not move ends with its next response; nobody waits longer for that one.
            self._engine.retirement.close_idle(idle_since)
        if self._orders.linger or now < self._orders.deadline:
            return False
        if self._sender is not None and self._sender.awaits_answers and now < self._orders.deadline + ANSWERS_SECONDS:
            return False
        self._cut()
        return True

    def end(self) -> list[Connection]:
        """Nothing moves any more: what is not acknowledged stays, and is returned."""
        sender, self._sender = self._sender, None
        # Without it by then: a connection that goes on here is not to be offered to it again.
        return [] if sender is None else sender.close()

    def successor_lost(self) -> None:
        """The sender has ended by itself."""
        self._sender = None

    def _cut(self) -> None:
        for connection in self.end():
            self._log_cut(connection, "no worker has taken it over in time")
        for request in self._engine.requests_in_flight():
            self._log.warning(
                "request cut at the end of the drain",
                method=request.method,
                target=request.target,
                age=request.age,
                reason="drain_timeout",
            )
        for connection in self._engine.connections:
            if why := connection.unfinished:
                self._log_cut(connection, why)
        self._engine.retirement.close_idle()
        self._engine.call_soon(self._engine.abort)  # when that is out: a TLS connection says that it ends

    def _log_cut(self, connection: Connection, why: str) -> None:
        host, port = connection.peer or ("unix", 0)
        self._log.warning(
            f"connection cut at the end of the drain: {why}", peer=f"{host}:{port}", reason="drain_timeout"
        )
