"""The HTTP engine of one process: every connection, the adapter that calls the application, and the clock.

It knows nothing of clusters. It is given an application, settings, a place to count and to log, an event
loop, and connected sockets.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from time import monotonic
from typing import cast

from clusterd.http.asgi import AsgiAdapter
from clusterd.http.asgi_call import AsgiApplication
from clusterd.http.call import Adapter
from clusterd.http.carried import Address, CarriedState
from clusterd.http.connection import Connection
from clusterd.http.doorstep import Doorstep
from clusterd.http.expiry import expire
from clusterd.http.head import HeadParser
from clusterd.http.mailbox import Mailbox
from clusterd.http.origin import Origins
from clusterd.http.ports import Counters, Log
from clusterd.http.response import Stamp
from clusterd.http.settings import AccessLog, HttpSettings, Interface
from clusterd.http.stage import IN_FLIGHT
from clusterd.http.surplus import Surplus, SurplusReport
from clusterd.http.threads import ThreadPool
from clusterd.http.tunnel import Departure
from clusterd.http.wsgi import WsgiAdapter, WsgiApplication

__all__ = ["Connection", "Engine", "InFlight"]

_LOGGED_FROM = {AccessLog.ALL: 0, AccessLog.ERRORS: 500, AccessLog.OFF: 1000}
"""The lowest status that is logged."""

MOST_SURPLUS = 64
"""Connections beyond limits.connections that are told so at the same time; still more are closed without a word."""

LATE_SECONDS = 1.0
"""Longer between two ticks, and the loop itself was held up."""


class EngineMode(Enum):
    """What happens to a connection after its response."""

    SERVING = auto()
    """It is kept."""
    HANDING_OVER = auto()
    """It is kept, and offered to another process as soon as it is between requests."""
    CLOSING = auto()
    """It is closed."""


_DEPARTURES = {EngineMode.HANDING_OVER: Departure.RESTART, EngineMode.CLOSING: Departure.STOP}


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that is not answered yet. `age` in seconds since its head was complete."""

    method: str
    target: str
    age: float
    phase: str


class Engine:
    """Made after the fork; everything is called on the loop's thread unless it says otherwise.

    `on_overdue` is called with the request that a thread has not answered within timeouts.request. `tls` is for the
    connections whose scheme is https.
    """

    def __init__(
        self,
        application: WsgiApplication | AsgiApplication,
        settings: HttpSettings,
        counters: Counters,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        on_movable: Callable[[Connection], None] | None = None,
        on_closed: Callable[[Connection], None] | None = None,
        on_saturation: Callable[[], None] = lambda: None,
        on_overdue: Callable[[str], None] = lambda _: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings
        self.tls = tls
        self.counters = counters
        self.log = log
        self._logged_from = _LOGGED_FROM[settings.access_log]
        self.stamp = Stamp(settings.server_header)
        self.heads = HeadParser(settings.limits)
        self.origins = Origins(settings, log)
        self.now = monotonic()
        """Time of the last tick, which is near enough for every timeout."""
        self.connections: set[Connection] = set()
        self._loop = loop
        self._on_movable = on_movable
        self._on_closed = on_closed
        self._to_give = 0
        # Plain attributes, because every request asks for them.
        self.is_closing = False
        """Whether responses say `Connection: close`."""
        self.is_handing_over = False
        """Whether connections move as they come to rest."""
        self.is_retiring = False
        """Whether something is to be done with a connection that comes to rest."""
        self.departure: Departure | None = None
        """Why the server leaves its clients, when it does: what can not move to another process ends with it."""
        self._arriving: set[Connection] = set()
        self._surplus: set[Surplus] = set()
        self._surplus_report = SurplusReport(settings.limits.connections, log)
        self._tasks: set[asyncio.Task[object]] = set()
        """Those that set connections up: the loop itself does not keep them."""
        self._pool: ThreadPool | None = None
        self.adapter: Adapter
        if settings.interface is Interface.ASGI:
            self.adapter = AsgiAdapter(cast(AsgiApplication, application), settings, log, self.stamp, loop)
            return
        mailbox = Mailbox(loop)
        if settings.threads:
            limits = settings.limits
            self._pool = ThreadPool(settings.threads, limits.queue, loop.call_soon, mailbox.post, on_saturation)
        self.adapter = WsgiAdapter(
            cast(WsgiApplication, application), settings, log, self.stamp, mailbox, self._pool, on_overdue
        )

    async def startup(self) -> None:
        """Have the application get ready. Raises StartupFailed."""
        await self.adapter.startup()

    async def shutdown(self) -> None:
        """Have the application clean up, when the last connection is gone."""
        await self.adapter.shutdown()

    @property
    def is_idle(self) -> bool:
        """Whether there is no connection, and no call that goes on after its response."""
        return not self.load and not self.adapter.running

    # ---- connections

    def adopt(
        self,
        sock: socket.socket,
        carried: CarriedState | None = None,
        *,
        peer: Address | None = None,
        local: Address | None = None,
        scheme: str = "http",
    ) -> None:
        """Serve a connected socket, which is the engine's from now on; `carried` where another process served it.

        `peer` and `local` are its addresses where they are known already; else they are asked for.
        """
        connection = Connection(self, sock, carried, peer, local, scheme)
        self._arriving.add(connection)
        if connection.may_begin_outside:
            self._loop.call_soon(Doorstep(self._loop, sock, connection, self._move_in).begin)
            return
        self._set_up(sock, connection, lambda: self._arriving.discard(connection))

    def shed(self, sock: socket.socket, scheme: str = "http") -> None:
        """Have the client of a connected socket come back later: there is no room for it anywhere."""
        self._surplus_report.note()
        if len(self._surplus) >= MOST_SURPLUS:
            sock.close()
            return
        surplus = Surplus(
            self._loop, self.counters, self.stamp, self._surplus.discard, self.tls if scheme == "https" else None
        )
        self._surplus.add(surplus)
        self._set_up(sock, surplus, lambda: self._surplus.discard(surplus))

    def _move_in(self, sock: socket.socket, doorstep: Doorstep) -> None:
        self._set_up(sock, doorstep, doorstep.failed)

    def _set_up(self, sock: socket.socket, protocol: asyncio.Protocol, failed: Callable[[], None]) -> None:
        def done(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:
                failed()  # a client may be gone before its connection is set up: nothing to say about it

        task: asyncio.Task[object] = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, sock))
        self._tasks.add(task)
        task.add_done_callback(done)

    def opened(self, connection: Connection) -> None:
        """A connection is set up."""
        self._arriving.discard(connection)
        self.connections.add(connection)
        self.counters.connections_changed(len(self.connections))

    def closed(self, connection: Connection) -> None:
        """A connection is no more."""
        self.connections.discard(connection)
        self.counters.connections_changed(len(self.connections))
        if self._on_closed is not None:
            self._on_closed(connection)

    @property
    def load(self) -> int:
        """Connections, those being set up included."""
        return len(self.connections) + len(self._arriving)

    def has_room(self) -> bool:
        """Whether another connection is below limits.connections."""
        return self.load < self.settings.limits.connections

    # ---- modes

    def call_soon(self, call: Callable[[], object]) -> None:
        """Have `call` made in the loop's next round, after what other connections have waiting."""
        self._loop.call_soon(call)

    def serve(self) -> None:
        """Keep connections, from the start and again after a retirement that was taken back."""
        self._enter(EngineMode.SERVING)

    def hand_over(self) -> None:
        """Offer every connection to `on_movable`: those at rest now, the others as they come to rest."""
        self._enter(EngineMode.HANDING_OVER)
        for connection in tuple(self.connections):
            self.at_rest(connection)

    def close(self) -> None:
        """Let every response be its connection's last."""
        self._enter(EngineMode.CLOSING)

    def _enter(self, mode: EngineMode) -> None:
        self.is_closing = mode is EngineMode.CLOSING
        self.is_handing_over = mode is EngineMode.HANDING_OVER
        self._to_give = 0
        self._note_whether_resting_matters()
        self.departure = _DEPARTURES.get(mode)
        if self.departure is not None:
            for connection in tuple(self.connections):
                connection.depart()

    def _note_whether_resting_matters(self) -> None:
        self.is_retiring = self.is_handing_over or self._to_give > 0

    def give(self, count: int) -> None:
        """Offer so many connections to `on_movable`, as they come to rest, and keep the others; 0 ends that."""
        self._to_give = count
        self._note_whether_resting_matters()
        for connection in tuple(self.connections):
            if not self._to_give:
                break
            self.at_rest(connection)

    def close_idle(self, since: float = inf) -> None:
        """Close the connections that have waited for a request since then; where they are handed over, those that can
        not move. Without a time all that are not in flight, also those that have sent a part of a head.
        """
        for connection in tuple(self.connections):
            if connection.is_bound or not self.is_handing_over:
                connection.close_if_idle(since)

    def abort(self) -> None:
        """Drop every connection at once."""
        for connection in tuple(self.connections):
            connection.abort()
        for surplus in tuple(self._surplus):
            surplus.abort()

    def at_rest(self, connection: Connection) -> None:
        """A connection may be able to move."""
        may_move = self.is_handing_over or self._to_give > 0
        if may_move and self._on_movable is not None and connection.movable:
            if self._to_give:
                self._to_give -= 1
                self._note_whether_resting_matters()
            self._on_movable(connection)

    # ---- requests

    def count(self, connection: Connection, status: int, seconds: float) -> None:
        """A request of `connection` is over: count it, and log it where that is wanted."""
        self.counters.request_done(status, seconds)
        if status >= self._logged_from:
            self._log_request(connection, status, seconds)

    def _log_request(self, connection: Connection, status: int, seconds: float) -> None:
        head = connection.request.head if connection.request else None
        peer = connection.origin.peer
        self.log.info(
            "request",
            method=head.method if head else None,
            target=head.target if head else None,
            status=status,
            seconds=seconds,
            peer=peer[0] if peer else None,
        )

    def requests_in_flight(self) -> list[InFlight]:
        """Every request that is not answered yet, the oldest first."""
        now = monotonic()
        return sorted(
            (
                InFlight(
                    each.request.head.method,
                    each.request.head.target,
                    now - each.request.started,
                    each.call.phase.value if each.call else "receiving",
                )
                for each in self.connections
                if each.request is not None
            ),
            key=lambda request: -request.age,
        )

    @property
    def in_flight(self) -> int:
        """How many requests are not answered yet."""
        return sum(1 for each in self.connections if each.stage in IN_FLIGHT)

    # ---- threads

    @property
    def threads_busy(self) -> int:
        """Threads that run a request."""
        return self._pool.busy if self._pool else 0

    @property
    def threads_free(self) -> int:
        """Threads that wait for one; 1 for an application on the loop."""
        return self._pool.free if self._pool else 1

    @property
    def queue_length(self) -> int:
        """Requests that wait for a thread."""
        return self._pool.waiting if self._pool else 0

    @property
    def has_threads(self) -> bool:
        """Whether the application runs in threads, and not on the loop."""
        return self._pool is not None

    def has_free_thread(self) -> bool:
        """Whether a request would run at once."""
        return self._pool is None or self._pool.free > 0

    def progress(self, now: float) -> float:
        """When requests last got ahead (`time.monotonic()`); `now` while nothing is stuck."""
        return self._pool.progress(now) if self._pool else now

    def stop_threads(self, timeout: float) -> bool:
        """End the pool; whether all threads ended within `timeout` seconds. Blocks: the last thing to call."""
        return self._pool.stop(timeout) if self._pool else True

    # ---- time

    def tick(self, now: float) -> None:
        """Enforce every timeout; `now` is time.monotonic(). To be called a few times a second.

        One sweep over the connections costs less than a timer for each, made and cancelled with every request.
        """
        late = now - self.now > LATE_SECONDS
        self.now = now
        self.stamp.refresh()
        self.adapter.tick(now)
        self._surplus_report.tick(now)
        if late:
            return  # the loop was busy: what clients sent meanwhile is read before they are judged
        for connection in [each for each in self.connections if each.deadline.due <= now]:
            expire(connection, self.counters)
