"""How a worker gets rid of its connections: to a successor, or by answering and closing them."""

from dataclasses import dataclass

from clusterd.http.engine import Connection, Engine
from clusterd.log import Logger
from clusterd.worker.handover import Sender

LAST_WORDS_SECONDS = 0.3
"""How long before the master's deadline a worker gives up by itself, so that it can say what it cut."""


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
            self._engine.close()
        else:
            self._engine.hand_over()

    def connection_at_rest(self, connection: Connection) -> None:
        """The engine has a connection that could move."""
        if self._sender is not None:
            self._sender.pass_on(connection)

    def finished(self, now: float) -> bool:
        """Enforce the times; True when the worker may leave."""
        if self._engine.is_idle:
            return not self._orders.linger
        if self._engine.in_flight:
            self._last_busy = now
        idle_since = now - self._orders.idle_seconds
        if self._sender is None:
            if self._last_busy <= idle_since:
                self._engine.close_idle()
        elif self._began <= idle_since:
            # What can not move ends with its next response; nobody waits longer for that one.
            self._engine.close_idle(idle_since)
        if now >= self._orders.deadline - LAST_WORDS_SECONDS:
            self._cut()
            return True
        return False

    def end(self) -> None:
        """Nothing moves any more: what is not acknowledged stays."""
        sender, self._sender = self._sender, None
        if sender is not None:
            # Without it by then: a connection that goes on here is not to be offered to it again.
            sender.close()

    def successor_lost(self) -> None:
        """The sender has ended by itself."""
        self._sender = None

    def _cut(self) -> None:
        for request in self._engine.requests_in_flight():
            self._log.warning(
                "request cut at the end of the drain",
                method=request.method,
                target=request.target,
                age=request.age,
                reason="drain_timeout",
            )
        self._engine.abort()
