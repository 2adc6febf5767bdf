"""The HTTP engine of one process: every connection, the adapter that calls the application, and the clock.

It knows nothing of clusters. It is given an application, settings, a place to count and to log, an event
loop, and connected sockets.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import cast

from clusterd.http.asgi.adapter import AsgiAdapter
from clusterd.http.asgi.application import AsgiApplication
from clusterd.http.call import Adapter
from clusterd.http.connections.connection import Connection
from clusterd.http.connections.context import ConnectionContext
from clusterd.http.connections.expiry import expire
from clusterd.http.connections.inline_transport import InlineTransport
from clusterd.http.connections.loop_entry import LoopEntry
from clusterd.http.connections.registry import Registry
from clusterd.http.connections.rejected_connection import Shedder
from clusterd.http.connections.stage import IN_FLIGHT
from clusterd.http.messages.response import Stamp
from clusterd.http.ports import Counters, Log
from clusterd.http.settings import HttpSettings, Interface
from clusterd.http.wsgi.adapter import WsgiAdapter, WsgiApplication
from clusterd.http.wsgi.leader_follower_pool import LeaderFollowerPool
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.threads import OnLoop, Threads
from clusterd.linux.address import Address
from clusterd.wire.connection_state import CarriedState

__all__ = ["Callbacks", "Connection", "Engine", "InFlight"]

LATE_SECONDS = 1.0
"""Longer between two ticks, and the loop itself was held up."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A request that is not answered yet. `age` in seconds since its head was complete, `peer` as Connection has it."""

    method: str
    target: str
    age: float
    phase: str
    peer: Address | None


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What an engine calls, on the loop."""

    on_movable: Callable[[Connection], None] | None = None
    """With a connection that is to move to another process."""
    on_closed: Callable[[Connection], None] | None = None
    on_saturation: Callable[[], None] = lambda: None
    """Every thread is busy, or one is free again."""
    on_overdue: Callable[[str], None] = lambda _: None
    """With the request that a thread has not answered within timeouts.request."""


class Engine:
    """Made after the fork; everything is called on the loop's thread unless it says otherwise.

    `tls` is for the connections whose scheme is https.
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
        self.threads: Threads = OnLoop(loop)
        if settings.interface is Interface.ASGI:
            self.adapter: Adapter = AsgiAdapter(cast(AsgiApplication, application), settings, log, stamp, loop)
        else:
            self.adapter = self._wsgi_adapter(cast(WsgiApplication, application), callbacks)
        self._registry = registry = Registry(counters, callbacks.on_movable, callbacks.on_closed)
        self.retirement = registry.retirement
        self.context = ConnectionContext(settings, self.adapter, stamp, registry, log, loop, tls)
        self._entry = LoopEntry(loop)
        self._shedder = Shedder(self._entry, loop, settings.limits.connections, counters, stamp, log, tls)

    def _wsgi_adapter(self, application: WsgiApplication, callbacks: Callbacks) -> WsgiAdapter:
        settings = self.settings
        mailbox = Mailbox(self._loop)
        pool = None
        if settings.threads:
            limit = settings.limits.queue
            self.threads = pool = LeaderFollowerPool(
                settings.threads, limit, self._loop, mailbox, callbacks.on_saturation
            )
        return WsgiAdapter(application, settings, self._log, self._stamp, mailbox, pool, callbacks.on_overdue)

    def run(self) -> None:
        """Run the loop until `leave`. While that pays, threads of the pool run it in the place of this one."""
        self.threads.run()

    def leave(self) -> None:
        """Have `run` return."""
        self.threads.leave()

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
        """Serve a connected socket, which is the engine's from now on; `carried` is what is known of it already.

        Without that it is a new one, and `peer` and `local` are its addresses; where they are None, they are asked for.
        """
        if carried is None:
            carried = CarriedState(b"", peer, local, scheme, 0, self.context.origins.expects_header)
        connection = Connection(self.context, sock, carried)
        arriving = self._registry.arriving
        arriving.add(connection)
        if connection.may_begin_outside:
            # At once, not in the loop's next round: whoever accepts knows then what is left of it when it decides about
            # the next one, and does not take more than it can answer while another worker has nothing to do.
            InlineTransport(self._loop, sock, connection, self._entry).begin()
            return
        self._entry.enter(sock, connection, lambda: arriving.discard(connection))

    def shed(self, sock: socket.socket, scheme: str = "http") -> None:
        """Have the client of a connected socket come back later: there is no room for it anywhere."""
        self._shedder.shed(sock, scheme)

    @property
    def connections(self) -> set[Connection]:
        """Those that are set up."""
        return cast(set[Connection], self._registry.open)

    @property
    def load(self) -> int:
        """Connections, those being set up included."""
        return self._registry.load

    @property
    def arriving(self) -> tuple[Connection, ...]:
        """The connections that are being set up, of which nothing more can be read yet."""
        return cast(tuple[Connection, ...], tuple(self._registry.arriving))

    def has_room(self) -> bool:
        """Whether another connection is below limits.connections."""
        return self.load < self.settings.limits.connections

    def abort(self) -> None:
        """Drop every connection at once."""
        for connection in tuple(self.connections):
            connection.abort()
        self._shedder.abort()

    def abort_soon(self) -> None:
        """The same in the loop's next round, when what is being written is out: TLS says that it ends."""
        self._loop.call_soon(self.abort)

    # ---- requests

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
                    each.peer,
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

    # ---- time

    def tick(self, now: float) -> None:
        """Enforce every timeout; `now` is time.monotonic(). To be called a few times a second.

        One sweep over the connections costs less than a timer for each, made and cancelled with every request.
        """
        late = now - self._ticked_at > LATE_SECONDS
        self._ticked_at = now
        self.context.is_debugging = self._log.is_debugging
        self._stamp.refresh()
        self.adapter.tick(now)
        self._shedder.tick(now)
        if late:
            return  # the loop was busy: what clients sent meanwhile is read before they are judged
        for connection in [each for each in self.connections if each.deadline.due <= now]:
            expire(connection, self.counters, now)
