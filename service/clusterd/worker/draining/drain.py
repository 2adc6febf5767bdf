"""The drain of a worker: hand over its connections to a successor, or answer and close them."""

from clusterd.http.engine import Connection, Engine
from clusterd.linux.address import Address
from clusterd.log import Logger
from clusterd.records import dataclass
from clusterd.worker.draining.handover import Sender

ANSWERS_SECONDS = 0.2
"""The time after the end of a drain for connections that are on their way to another worker or may still move. Their
clients may have sent a request already, and it is not lost if the other worker answers it."""

MOST_NAMED = 20
"""The most requests that are cut and named in the log: the oldest."""


@dataclass(frozen=True, slots=True)
class DrainLimits:
    """The limits of a drain. `deadline` is a time by time.monotonic(), `idle_seconds` a duration."""

    deadline: float
    idle_seconds: float
    linger: bool


class Drain:
    """One drain of one worker. A new order of the master replaces it with another drain."""

    def __init__(self, engine: Engine, sender: Sender | None, limits: DrainLimits, log: Logger, now: float) -> None:
        self._engine = engine
        self._sender = sender
        self._hands_over = sender is not None
        """Stays true if the successor is lost: the master names another as soon as it can."""
        self._limits = limits
        self._log = log
        self._began = self._last_busy = now

    def begin(self) -> None:
        """Hand over or close the connections that are at rest. The others follow when they come to rest."""
        self._log.debug(
            "a drain begins",
            connections=self._engine.load,
            seconds=round(self._limits.deadline - self._began, 3),
            idle_seconds=self._limits.idle_seconds,
            successor=self._sender is not None,
            linger=self._limits.linger,
        )
        if self._sender is None:
            self._engine.retirement.close()
        else:
            self._engine.retirement.hand_over()

    def connection_at_rest(self, connection: Connection) -> None:
        """Hand over a connection that has come to rest."""
        if self._sender is not None:
            self._sender.pass_on(connection)

    def is_over(self, now: float) -> bool:
        """Whether the deadline has passed. From then on the worker takes over no connections."""
        return not self._limits.linger and now >= self._limits.deadline

    @property
    def ends(self) -> tuple[float, float]:
        """The times at which to call `finished`, by time.monotonic()."""
        # A worker that has read the order after its deadline still has ANSWERS_SECONDS.
        return self._limits.deadline, max(self._limits.deadline, self._began) + ANSWERS_SECONDS

    def finished(self, now: float) -> bool:
        """Enforce the limits. Returns True when the worker may exit.

        A worker that lingers may have to serve its slot again. It stays, and cuts nothing before the master orders it
        to go.
        """
        if self._engine.is_idle:
            return not self._limits.linger
        if self._engine.in_flight:
            self._last_busy = now
        idle_since = now - self._limits.idle_seconds
        if self._sender is None:
            if self._last_busy <= idle_since:
                close_idle(self._engine, now)  # Not those whose client has begun to send a request.
        elif self._began <= idle_since:
            # A connection that cannot move ends with its next response. The drain no longer waits for that response.
            close_idle(self._engine, idle_since)
        if not self.is_over(now) or (now < self.ends[1] and self._something_may_move()):
            return False
        self._cut()
        return True

    def _something_may_move(self) -> bool:
        engine = self._engine
        return self._hands_over and (bool(engine.arriving) or any(each.may_still_move for each in engine.connections))

    def end(self) -> list[Connection]:
        """Stop handing over. Returns the connections that were offered and not acknowledged; they stay here."""
        sender, self._sender = self._sender, None
        # The sender is cleared first: a connection that resumes here must not be offered to it again.
        return [] if sender is None else sender.close()

    @property
    def has_lost_successor(self) -> bool:
        """Whether the successor is lost, and connections wait for another one."""
        return self._hands_over and self._sender is None

    def successor_lost(self) -> None:
        """The successor has closed its end or has refused a connection."""
        self._log.debug("a drain has lost its successor", connections=self._engine.load)
        self._sender = None

    def _cut(self) -> None:
        self._log.debug("a drain is over", connections=self._engine.load)
        unacknowledged = set(self.end())
        requests = self._engine.requests_in_flight()
        # The master takes what is in hand from here on for lost.
        self._engine.in_hand.freeze()
        for _ in requests:
            self._engine.counters.timed_out("drain")
        for request in requests[:MOST_NAMED]:
            self._log.warning(
                "request cut at the end of the drain",
                method=request.method,
                target=request.target,
                age=request.age,
                peer=_written(request.peer) if request.peer else None,
                reason="drain_timeout",
            )
        if len(requests) > MOST_NAMED:
            more = f"{len(requests) - MOST_NAMED} more requests cut at the end of the drain"
            self._log.warning(more, reason="drain_timeout")
        for connection in (*self._engine.connections, *self._engine.arriving):
            if connection in unacknowledged or (self._hands_over and connection.may_still_move):
                self._log_cut(connection, "no worker has taken it over in time")
            elif why := connection.unfinished:
                self._log_cut(connection, why)
        self._engine.retirement.close_idle()
        self._engine.abort_soon()

    def _log_cut(self, connection: Connection, why: str) -> None:
        self._engine.counters.timed_out("drain")
        self._log.warning(
            f"connection cut at the end of the drain: {why}", peer=_written(connection.peer), reason="drain_timeout"
        )


def close_idle(engine: Engine, since: float) -> None:
    """Close and count the connections that have waited for a request since `since` (time.monotonic())."""
    for _ in range(engine.retirement.close_idle(since)):
        engine.counters.timed_out("drain_idle")


def _written(peer: Address | None) -> str:
    if peer is None:
        return "unix"
    # Without a port where a proxy has named the client: mostly it does not tell it.
    return f"{peer[0]}:{peer[1]}" if peer[1] else peer[0]
