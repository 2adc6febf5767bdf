"""`scheduling: round_robin`: the master accepts connections and dispatches them to the workers in turn.

It accepts only connections that it can pass on at once, so that clients wait in the kernel's backlog. It keeps each
connection until the worker acknowledges it, so a worker that dies with unread connections loses none of them.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Iterable
from itertools import islice
from time import monotonic

from clusterd.config.model import Scheduling, Switch
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.log import Logger
from clusterd.master.children.child import Child
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.sockets.dispatch_channel import (
    Accepted,
    Availability,
    DispatchChannel,
    Terms,
    is_silent,
    next_in_turn,
)
from clusterd.master.sockets.listeners import Listeners
from clusterd.metrics.shared.row import Row
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.wire.messages import Dispatch
from clusterd.wire.packets import socketpair

ACCEPTS_A_TURN = 64
"""The most connections accepted in one turn of the event loop, so that the master's other work goes on."""

REST_SECONDS = 0.05
"""How long the master does not accept after descriptors have run out."""

LATE_SECONDS = 1.0
"""A connection that a worker has not taken within this time goes to another worker, if one would take it."""

COMPLAIN_EVERY_SECONDS = 60.0


class RoundRobin:
    """Accepts connections in the master, and owns every connection that no worker has yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Listeners,
        children: Children,
        scoreboard: Scoreboard,
        configurations: Configurations,
        log: Logger,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._children = children
        self._scoreboard = scoreboard
        self._configurations = configurations
        self._log = log
        self._workers: dict[int, Child] = {}
        """The workers that have served and have not ended, by serial."""
        self._serving: set[int] = set()
        """The serials of the workers that have not retired."""
        self._dispatched_to: set[int] = set()
        """The serials of the workers that the master accepts for."""
        self._turn: dict[int, DispatchChannel] = {}
        """The channels in the order of the turn, by serial. The worker that has waited longest is the first.

        Stand-ins are in it only while it has no other worker: workers that the master does not accept for. They take
        connections that came back from a dead worker, or that were in the backlog of a socket that is being closed.
        """
        self._channels: set[DispatchChannel] = set()
        """Every open channel, also to workers that are not in the turn any more."""
        self._waiting: deque[Accepted] = deque()
        """Accepted connections that wait for a worker."""
        self.has_dispatched_all = asyncio.Event()
        """Set while every accepted connection has been dispatched."""
        self._is_reading = False
        self._is_closing = False
        """Whether only `take_the_rest` accepts connections."""
        self._is_stopping = False
        self._is_held = False
        """Whether it does not accept, because another program of the master is about to go on."""
        self._rest: asyncio.TimerHandle | None = None
        self._complained_at: float | None = None
        self.refused = 0
        """Connections that were closed unanswered."""

    @property
    def waiting(self) -> int:
        """How many accepted connections wait for a worker."""
        return len(self._waiting)

    # ---- the workers

    def serves(self, child: Child) -> None:
        """Note that a worker serves, for the first time or again."""
        self._workers[child.serial] = child
        self._serving.add(child.serial)
        if self._configurations.of(child.generation).scheduling is Scheduling.ROUND_ROBIN:
            self._dispatched_to.add(child.serial)
            self._enter(child)
        self._go_on()

    def drains(self, child: Child) -> None:
        """Note a worker that drains, and has served under an earlier program of the master."""
        self._workers[child.serial] = child

    def retires(self, serial: int) -> None:
        """Dispatch nothing more to a worker. Called before it is told to stop: its queue must be complete by then."""
        self._serving.discard(serial)
        self._dispatched_to.discard(serial)
        self._turn.pop(serial, None)
        self._go_on()

    def ended(self, serial: int) -> None:
        """Take back the connections of a dead worker. A child of the worker may still hold its end of the channel."""
        self._workers.pop(serial, None)
        self.retires(serial)
        for channel in [each for each in self._channels if each.serial == serial]:
            self._end_channel(channel)
        self._go_on()

    def look(self) -> None:
        """Take back connections that a worker does not take, and use recovered workers. Called a few times a second."""
        now = monotonic()
        self._take_back([channel for channel in self._channels if channel.is_late(now - LATE_SECONDS)], now)
        for serial in self._dispatched_to - self._turn.keys():
            child, row = self._workers[serial], self._row(self._workers[serial])
            if row is not None and not is_silent(row, now):
                self._enter(child)
        self._go_on()

    def _take_back(self, late: list[DispatchChannel], now: float) -> None:
        """Take back the connections of late workers, if another worker would take them at once."""
        for channel in late:
            others = (other for other in self._turn.values() if other is not channel)
            if any(other.availability(now) is Availability.READY for other in others):
                fields = self._workers[channel.serial].fields() if channel.serial in self._workers else {}
                self._log.notice("worker does not take its connections, others get them", **fields)
                self._end_channel(channel)

    def _enter(self, child: Child) -> None:
        """Add a worker at the end of the turn. If that fails, `look` tries again."""
        if child.serial in self._turn or (channel := self._open_channel(child)) is None:
            return
        self._turn[child.serial] = channel
        if self._accepts_for(channel):
            for stand_in in [each for each in self._turn.values() if not self._accepts_for(each)]:
                del self._turn[stand_in.serial]
                self._end_if_clear(stand_in)

    def _open_channel(self, child: Child) -> DispatchChannel | None:
        row = self._row(child)
        if row is None:
            return None
        try:
            ours, theirs = socketpair()
        except OSError:
            return None  # Descriptors have run out.
        with theirs:
            self._children.send(child, Dispatch(), theirs.fileno())
        config = self._configurations.of(child.generation)
        terms = Terms(config.limits.connections, config.proxy_protocol is Switch.ON)
        channel = DispatchChannel(child.serial, ours, self._loop, row, terms, self._answered, self._hung_up)
        self._channels.add(channel)
        return channel

    def _row(self, child: Child) -> Row | None:
        return None if child.row is None else self._scoreboard.row(child.row)

    # ---- answers of the workers

    def _answered(self, channel: DispatchChannel) -> None:
        self._waiting.extend(channel.take_declined())
        self._go_on()
        if not self._waiting and not self._accepts_for(channel):
            self._end_if_clear(channel)

    def _hung_up(self, channel: DispatchChannel) -> None:
        """Use a channel no more: its worker is dead, or drains because of a SIGTERM that the master did not send."""
        if self._turn.get(channel.serial) is channel:
            if not self._accepts_for(channel):
                self._rest_a_while()  # Otherwise the master might ask the same worker again and again without a pause.
            self._dispatched_to.discard(channel.serial)
        self._end_channel(channel)

    def _end_if_clear(self, channel: DispatchChannel) -> None:
        if channel in self._channels and channel.is_clear:
            self._end_channel(channel)

    def _end_channel(self, channel: DispatchChannel) -> None:
        self._channels.discard(channel)
        if self._turn.get(channel.serial) is channel:
            del self._turn[channel.serial]
        self._waiting.extend(channel.end())
        self._go_on()

    def _go_on(self) -> None:
        """Dispatch the waiting connections as far as workers can take them. Accept new ones once none waits."""
        while self._waiting:
            if not self._turn:
                self._find_stand_in()
            channel = self._next()
            if channel is None:
                break
            if self._dispatch(channel, self._waiting[0]):
                self._waiting.popleft()
        if self._waiting:
            self.has_dispatched_all.clear()
        else:
            self.has_dispatched_all.set()
        wanted = not (self._is_closing or self._is_held or self._waiting or self._rest)
        self._read(wanted and any(self._accepts_for(each) and each.has_room() for each in self._turn.values()))

    def _accepts_for(self, channel: DispatchChannel) -> bool:
        return channel.serial in self._dispatched_to

    def _next(self) -> DispatchChannel | None:
        """The channel whose turn it is; None if no worker in the turn can receive a connection."""
        now = monotonic()
        channels = self._turn.values()
        place = next_in_turn(channel.availability(now) for channel in channels)
        return None if place is None else next(islice(channels, place, None))

    def _dispatch(self, channel: DispatchChannel, accepted: Accepted) -> bool:
        """Dispatch to a worker and move it to the end of the turn. Returns False if that is not possible now."""
        anyway = channel.is_full() or channel.serial not in self._serving  # `_next` has found no better worker.
        if not channel.dispatch(accepted, anyway=anyway):
            return False
        if channel.serial in self._turn:
            self._turn[channel.serial] = self._turn.pop(channel.serial)
        return True

    def _find_stand_in(self) -> None:
        """Let the newest worker enter that accepts for itself, or drains, if there is one."""
        if self._is_stopping and not self._workers:
            self._give_up()
        if self._rest is not None:
            return
        for child in reversed(self._workers.values()):
            if child.channel is not None and not child.doomed:
                self._enter(child)
            if self._turn:
                return

    def _give_up(self) -> None:
        """Close the waiting connections, because no worker is left to serve them."""
        self._log.warning("connections are closed unanswered: no worker is left", connections=len(self._waiting))
        self.refused += len(self._waiting)
        while self._waiting:
            self._waiting.popleft().sock.close()

    # ---- accepting

    def hold(self, is_held: bool) -> None:
        """Accept nothing while `is_held`. The clients wait in the backlogs."""
        self._is_held = is_held
        self._go_on()

    @property
    def is_idle(self) -> bool:
        """Whether every connection that was accepted is a worker's."""
        return not self._waiting and all(channel.is_clear for channel in self._channels)

    @property
    def has_workers(self) -> bool:
        """Whether a worker serves or drains."""
        return bool(self._workers)

    def take_the_rest(self, listeners: Iterable[ListeningSocket]) -> None:
        """Accept every connection in the backlogs of sockets that are being closed, and dispatch it.

        The setting `scheduling` does not matter here: busy workers would accept too late. Must be called until the
        backlogs stay empty.
        """
        self._is_closing = True
        self._read(False)
        for listener in listeners:
            self._accept_from(listener, most=None)
        if self._waiting:
            for serial in self._serving:
                self._enter(self._workers[serial])
        self._go_on()

    def stop(self) -> None:
        """Stop accepting. The clients of a socket that stays open wait in its backlog for the next start."""
        if self._is_stopping:
            return
        self._is_closing = self._is_stopping = True
        self._read(False)
        now = monotonic()
        # Take them back now, because the workers that could take them will end soon.
        self._take_back([channel for channel in self._channels if channel.is_stuck(now)], now)

    def _read(self, wanted: bool) -> None:
        if wanted == self._is_reading:
            return
        self._is_reading = wanted
        for listener in self._listeners.public:
            if wanted:
                self._loop.add_reader(listener.fileno(), self._accept, listener)
            else:
                self._loop.remove_reader(listener.fileno())

    def _accept(self, listener: ListeningSocket) -> None:
        self._accept_from(listener, ACCEPTS_A_TURN)
        self._go_on()

    def _accept_from(self, listener: ListeningSocket, most: int | None) -> None:
        """Accept and dispatch up to `most` connections, as long as a worker can take one.

        If `most` is None, accept all connections in the backlog. Those that no worker can take wait in the master.
        """
        while most is None or most > 0:
            channel = self._next()
            if channel is None and most is not None:
                return
            try:
                sock, peer = listener.take()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # The backlog is empty, a worker of another generation was faster, or the client has gone.
                return
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: a Unix socket that was shut down, with an empty backlog.
                    self._complain(error)
                    self._rest_a_while()
                return
            accepted = Accepted(sock, peer, listener.local, listener.scheme)
            if channel is None or not self._dispatch(channel, accepted):
                self._waiting.append(accepted)
            if most is not None:
                most -= 1

    def _rest_a_while(self) -> None:
        """Stop accepting for REST_SECONDS: a retry at once would fail in the same way."""
        self._read(False)
        if self._rest is None:
            self._rest = self._loop.call_later(REST_SECONDS, self._rested)

    def _rested(self) -> None:
        self._rest = None
        self._go_on()

    def _complain(self, error: OSError) -> None:
        now = monotonic()
        if self._complained_at is None or now - self._complained_at > COMPLAIN_EVERY_SECONDS:
            self._complained_at = now
            self._log.error(f"clusterd cannot accept connections: {error.strerror}; they wait in the kernel's backlog")
