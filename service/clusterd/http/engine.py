"""The HTTP engine of one process: its connections, the adapter that calls the application, and the timeouts.

It knows nothing of clusters. Its owner passes it an application, settings, counters, a log, an event loop and sockets.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

from clusterd.http.asgi.adapter import AsgiAdapter
from clusterd.http.asgi.application import AsgiApplication
from clusterd.http.call import Adapter, CallPhase
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.expiry import expire
from clusterd.http.connections.registry import Registry
from clusterd.http.connections.stage import IN_FLIGHT
from clusterd.http.connections.transports.inline_transport import InlineTransport
from clusterd.http.connections.transports.loop_entry import LoopEntry
from clusterd.http.connections.transports.rejected_connection import Shedder
from clusterd.http.forks import FORKS
from clusterd.http.hidden_loop import hide
from clusterd.http.in_hand import InHand, method_and_target
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Counters, Log
from clusterd.http.settings import AccessLog, HttpSettings, Interface
from clusterd.http.wsgi.adapter import WsgiAdapter, WsgiApplication
from clusterd.http.wsgi.greenlets import Greenlets
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.on_loop import OnLoop, OnLoopInTask
from clusterd.http.wsgi.pool.thread_pool import ThreadPool
from clusterd.http.wsgi.runner import JobRunners, Runners
from clusterd.linux.address import Address
from clusterd.runtime.hub import hub_in_use
from clusterd.wire.connection_state import CarriedState

__all__ = ["Callbacks", "Connection", "Engine", "InFlight"]

LATE_SECONDS = 1.0
"""If more time passes between two ticks, the event loop itself was blocked."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that is not answered yet. `age` is in seconds since its head was complete."""

    method: str
    target: str
    age: float
    phase: str
    peer: Address | None
    """The client, as the access log names it: behind a trusted proxy not the proxy."""
    place: int
    """Its place among those in hand; that of none if it has no place."""
    runs_in: Any
    """What runs it: the identifier of a thread, a greenlet or a task. None if nothing does, or the event loop."""
    request_id: str = ""
    """Empty without `request_ids`, and for a request that its connection has left."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What an engine tells its owner, on the loop's thread."""

    on_movable: Callable[[Connection], None] | None = None
    """Called with a connection that should move to another process."""
    on_closed: Callable[[Connection], None] | None = None
    on_saturation: Callable[[], None] = lambda: None
    """Called when every thread is busy, and when one is free again."""
    on_overdue: Callable[[str, Any], None] = lambda _, __: None
    """Called with a request that a thread or greenlet has not answered within timeouts.request, and the greenlet."""
    in_hand: InHand = field(default_factory=InHand)
    """Where the engine records the requests that the application is handling."""


class Engine:
    """Created after the fork. All methods are called on the loop's thread.

    `tls` is the context for connections whose scheme is https.
    """

    def __init__(
        self,
        application: WsgiApplication | AsgiApplication,
        settings: HttpSettings,
        counters: Counters,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        callbacks: Callbacks,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings
        self.tls = tls
        self.counters = counters
        self._log = log
        self._loop = loop
        self._ticked_at = monotonic()
        self._stamp = stamp = Stamp(settings.server_header)
        if settings.interface is Interface.ASGI:
            self.runners: Runners = OnLoopInTask(loop)
            self.adapter: Adapter = AsgiAdapter(cast(AsgiApplication, application), settings, log, stamp, loop)
        else:
            self.adapter = self._wsgi_adapter(cast(WsgiApplication, application), callbacks)
        self.in_hand = callbacks.in_hand
        self._registry = registry = Registry(counters, self.in_hand, callbacks.on_movable, callbacks.on_closed)
        self.retirement = registry.retirement
        self.context = ConnectionContext(settings, self.adapter, stamp, registry, log, loop, tls)
        self._entry = LoopEntry(loop)
        self._shedder = Shedder(self._entry, loop, settings.limits.connections, counters, stamp, log)

    def _wsgi_adapter(self, application: WsgiApplication, callbacks: Callbacks) -> WsgiAdapter:
        settings = self.settings
        mailbox = Mailbox(self._loop)
        pool: JobRunners | None = None
        limit, on_saturation = settings.limits.queue, callbacks.on_saturation
        if (hub := hub_in_use()) is not None:
            pool = Greenlets(settings.greenlets, limit, self._loop, hub, on_saturation, self.counters)
        elif settings.threads:
            pool = ThreadPool(settings.threads, limit, self._loop, mailbox, on_saturation, self.counters)
        self.runners = OnLoop(self._loop, hide) if pool is None else pool
        return WsgiAdapter(application, settings, self._log, self._stamp, mailbox, pool, callbacks.on_overdue)

    def run(self) -> None:
        """Run the event loop until `leave`. Another thread may run it in place of this one."""
        FORKS.serve()
        self.runners.run()

    def leave(self) -> None:
        """Make `run` return."""
        self.runners.leave()

    async def startup(self) -> None:
        """Run the application's startup. Raises StartupFailed."""
        await self.adapter.startup()

    @property
    def calls(self) -> list[asyncio.Task[None]]:
        """The tasks of the application's calls that are under way."""
        return self.adapter.tasks

    async def shutdown(self) -> None:
        """Run the application's shutdown, after the last connection is gone."""
        await self.adapter.shutdown()

    @property
    def is_idle(self) -> bool:
        """Whether there is no connection and no call of the application that goes on after its response."""
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
        """Serve a connected socket, and take ownership of it.

        `carried` is the state of a connection that another process has handed over. Without it the connection is new,
        and `peer` and `local` are its addresses. If they are None, the engine asks the socket for them.
        """
        if carried is None:
            carried = CarriedState(b"", peer, local, scheme, 0, self.context.origins.expects_header)
        connection = Connection(self.context, sock, carried)
        arriving = self._registry.arriving
        arriving.add(connection)
        if connection.may_begin_outside:
            # At once, not in the loop's next round. The acceptor then knows the load that is left when it decides about
            # the next connection. Otherwise it could accept more than it can answer while another worker is idle.
            InlineTransport(self._loop, sock, connection, self._entry).begin()
            return
        self._entry.enter(sock, connection, lambda: arriving.discard(connection))

    def shed(self, sock: socket.socket, scheme: str = "http") -> None:
        """Reject the connection with a 503 and Retry-After, because no worker has room for it."""
        self._shedder.shed(sock, scheme)

    @property
    def connections(self) -> set[Connection]:
        """The connections that are set up."""
        return cast(set[Connection], self._registry.open)

    @property
    def load(self) -> int:
        """Number of connections, including those that are being set up."""
        return self._registry.load

    @property
    def arriving(self) -> tuple[Connection, ...]:
        """The connections that are being set up. The engine cannot read more from them yet."""
        return cast(tuple[Connection, ...], tuple(self._registry.arriving))

    @property
    def is_entering(self) -> bool:
        """Whether a connection is on its way into the loop, which takes a few turns of it."""
        return self._entry.is_entering

    def has_room(self) -> bool:
        """Whether the number of connections is below limits.connections."""
        return self.load < self.settings.limits.connections

    def abort(self) -> None:
        """Drop every connection at once. The caller logs their requests."""
        for connection in tuple(self.connections):
            connection.cut()
        self._shedder.abort()

    def abort_soon(self) -> None:
        """Drop every connection in the loop's next round. What was just written, as close_notify, goes out before."""
        self._loop.call_soon(self.abort)

    # ---- requests

    def change_access_log(self, mode: AccessLog) -> None:
        """Log other requests from now on."""
        self.context.access.change(mode)

    def requests_in_flight(self) -> list[InFlight]:
        """Return the requests that are not answered yet, the oldest first."""
        now, nowhere = monotonic(), self.in_hand.nowhere  # Another connection may have taken the place over.
        return sorted(
            (
                InFlight(
                    each.request.head.method,
                    each.request.head.target,
                    now - each.request.started,
                    (each.call.phase if each.call else CallPhase.RECEIVING).value,
                    each.origin.peer,
                    (each.place if each.place.owner is each else nowhere).index,
                    each.call.runs_in if each.call else None,
                    each.request.id,
                )
                for each in self.connections
                if each.request is not None
            ),
            key=lambda request: -request.age,
        )

    def requests_in_hand(self) -> list[InFlight]:
        """Return the requests in flight, and those that the application goes on with although their clients have gone
        or were answered.
        """
        now = monotonic()
        left = (
            InFlight(*method_and_target(line), now - begun, "left", None, place, call.runs_in)
            for place, line, begun, call in self.in_hand.left_requests()
        )
        return [*self.requests_in_flight(), *left]

    @property
    def in_flight(self) -> int:
        """Number of requests that are not answered yet."""
        return sum(1 for each in self.connections if each.stage in IN_FLIGHT)

    # ---- time

    def tick(self, now: float) -> None:
        """Enforce every timeout. `now` is time.monotonic(). To be called a few times a second.

        One sweep over all connections costs less than a timer for each, created and cancelled with every request.
        """
        late = now - self._ticked_at > LATE_SECONDS
        self._ticked_at = now
        self.context.is_debugging = self._log.is_debugging
        self._stamp.refresh()
        self.in_hand.tick()
        self.adapter.tick(now)
        self._shedder.tick(now)
        if late:
            return  # The loop was blocked. It must first read what clients have sent in the meantime.
        for connection in [each for each in self.connections if each.deadline.due <= now]:
            expire(connection, now)
