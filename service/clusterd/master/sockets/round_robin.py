"""`scheduling: round_robin`: the master accepts, and deals the connections to the workers in turn.

It accepts only what it can pass on at once, so that those who wait, wait in the kernel's queue, and holds each
connection until the worker has said that it has it: one that dies with connections unread costs none of them.
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
from clusterd.master.children.table import Child, Children
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
from clusterd.metrics.row import Row
from clusterd.metrics.scoreboard import Scoreboard
from clusterd.wire.messages import Dispatch
from clusterd.wire.packets import socketpair

ACCEPTS_A_TURN = 64
"""Then the master's other business has its turn."""

REST_SECONDS = 0.05
"""How long nothing is accepted when there are no descriptors for it."""

LATE_SECONDS = 1.0
"""A connection that a worker has not taken by then goes to another one, if another one would take it."""

COMPLAIN_EVERY_SECONDS = 60.0


class RoundRobin:
    """The one who accepts in the master, and who knows every connection that no worker has yet."""

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
        """Those that serve, or did and are not gone."""
        self._serving: set[int] = set()
        """The serials of those that have not retired."""
        self._dealt_to: set[int] = set()
        """The serials of those that the master is to accept for."""
        self._turn: dict[int, DispatchChannel] = {}
        """By serial, beginning with whoever has waited longest."""
        self._channels: set[DispatchChannel] = set()
        """Also of those that are not in the turn any more."""
        self._rescue: DispatchChannel | None = None
        """To a worker outside the turn, for what would be nobody's otherwise."""
        self._waiting: deque[Accepted] = deque()
        """What came back."""
        self.has_dealt_all = asyncio.Event()
        """Set while every connection that was accepted has been dealt."""
        self._is_reading = False
        self._is_closing = False
        """Nothing is accepted any more but what `take_the_rest` finds."""
        self._is_stopping = False
        self._rest: asyncio.TimerHandle | None = None
        self._complained_at: float | None = None

    # ---- the workers

    def serves(self, child: Child) -> None:
        """A worker serves, for the first time or again."""
        self._workers[child.serial] = child
        self._serving.add(child.serial)
        if self._configurations.of(child.generation).scheduling is Scheduling.ROUND_ROBIN:
            self._dealt_to.add(child.serial)
            self._enter(child)
        self._go_on()

    def retires(self, serial: int) -> None:
        """A worker is about to be told to stop accepting: everything that it is dealt must be in its queue by then."""
        self._serving.discard(serial)
        self._dealt_to.discard(serial)
        self._turn.pop(serial, None)
        self._go_on()

    def ended(self, serial: int) -> None:
        """A worker is dead. Its end of the channel may be open still, in a child of its own."""
        self._workers.pop(serial, None)
        self.retires(serial)
        for channel in [each for each in self._channels if each.serial == serial]:
            self._end_channel(channel)
        self._go_on()

    def look(self) -> None:
        """A few times a second: take back what a worker does not take, and deal again to one that is well again."""
        now = monotonic()
        self._take_back([channel for channel in self._channels if channel.is_late(now - LATE_SECONDS)], now)
        for serial in self._dealt_to - self._turn.keys():
            child, row = self._workers[serial], self._row(self._workers[serial])
            if row is not None and not is_silent(row, now):
                self._enter(child)
        self._go_on()

    def _take_back(self, late: list[DispatchChannel], now: float) -> None:
        """Where another worker would take at once what is on its way to a late one."""
        for channel in late:
            others = (other for other in self._turn.values() if other is not channel)
            if any(other.availability(now) is Availability.READY for other in others):
                fields = self._workers[channel.serial].fields() if channel.serial in self._workers else {}
                self._log.notice("worker does not take its connections, others get them", **fields)
                self._end_channel(channel)

    def _enter(self, child: Child) -> None:
        """Give a worker its place at the end of the turn; where that is not possible, `look` tries again."""
        if child.serial not in self._turn and (channel := self._open_channel(child)) is not None:
            self._turn[child.serial] = channel

    def _open_channel(self, child: Child) -> DispatchChannel | None:
        row = self._row(child)
        if row is None:
            return None
        try:
            ours, theirs = socketpair()
        except OSError:
            return None  # out of descriptors
        with theirs:
            self._children.send(child, Dispatch(), theirs.fileno())
        config = self._configurations.of(child.generation)
        terms = Terms(config.limits.connections, config.proxy_protocol is Switch.ON)
        channel = DispatchChannel(child.serial, ours, self._loop, row, terms, self._heard, self._hung_up)
        self._channels.add(channel)
        return channel

    def _row(self, child: Child) -> Row | None:
        return None if child.row is None else self._scoreboard.row(child.row)

    # ---- what becomes of what was dealt

    def _heard(self, channel: DispatchChannel) -> None:
        self._waiting.extend(channel.take_declined())
        if channel is self._rescue and channel.is_clear and not self._waiting:
            self._end_channel(channel)
        else:
            self._go_on()

    def _hung_up(self, channel: DispatchChannel) -> None:
        """A worker is dead, or drains though nobody has told it to (a SIGTERM): it is to be dealt nothing more."""
        if self._turn.get(channel.serial) is channel:
            self._dealt_to.discard(channel.serial)
        self._end_channel(channel)

    def _end_channel(self, channel: DispatchChannel) -> None:
        self._channels.discard(channel)
        if self._turn.get(channel.serial) is channel:
            del self._turn[channel.serial]
        if self._rescue is channel:
            self._rescue = None
            self._rest_a_while()  # whoever does not want to rescue is not to be asked in a circle
        self._waiting.extend(channel.end())
        self._go_on()

    def _go_on(self) -> None:
        """Deal out what came back, and then what is new, as far as somebody takes it."""
        while self._waiting:
            channel = self._next() or self._rescue_channel()
            if channel is None:
                break
            if self._deal(channel, self._waiting[0]):
                self._waiting.popleft()
        if self._waiting:
            self.has_dealt_all.clear()
        else:
            self.has_dealt_all.set()
        wanted = not (self._is_closing or self._waiting or self._rest)
        self._read(wanted and any(channel.has_room() for channel in self._turn.values()))

    def _next(self) -> DispatchChannel | None:
        """Whose turn it is."""
        now = monotonic()
        channels = self._turn.values()
        place = next_in_turn(channel.availability(now) for channel in channels)
        return None if place is None else next(islice(channels, place, None))

    def _deal(self, channel: DispatchChannel, accepted: Accepted) -> bool:
        """Deal to the worker whose turn it is, which is the last one then. False where that was not possible."""
        anyway = channel.is_full() or channel is self._rescue  # there is nobody better
        if not channel.deal(accepted, anyway=anyway):
            return False
        if channel.serial in self._turn:
            self._turn[channel.serial] = self._turn.pop(channel.serial)
        return True

    def _rescue_channel(self) -> DispatchChannel | None:
        """For what is left when nobody is in the turn: a worker that accepts for itself, or one on its way out."""
        if self._is_stopping and not self._workers:
            self._give_up()
        if self._turn or self._rest or not self._waiting:
            return None
        if self._rescue is None:
            for child in reversed(self._workers.values()):
                can_take = child.channel is not None and not child.doomed
                if can_take and (channel := self._open_channel(child)) is not None:
                    self._rescue = channel
                    break
        return self._rescue if self._rescue is not None and self._rescue.has_room() else None

    def _give_up(self) -> None:
        """There is nobody left to serve them."""
        self._log.warning("connections are closed unanswered: no worker is left", connections=len(self._waiting))
        while self._waiting:
            self._waiting.popleft().sock.close()

    # ---- accepting

    @property
    def has_workers(self) -> bool:
        """Whether there is a worker that serves, or did and finishes what it has."""
        return bool(self._workers)

    def take_the_rest(self, listeners: Iterable[ListeningSocket]) -> None:
        """Accept everything that waits in the queues of sockets that are being closed, and deal it, whatever the
        scheduling is: workers that are busy would come too late for it. To be called until the queues stay empty.
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
        """Accept nothing more: what is in the queue of a socket that stays open waits there for the next start."""
        if self._is_stopping:
            return
        self._is_closing = self._is_stopping = True
        self._read(False)
        now = monotonic()
        # The others will not be here for long.
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
        """Accept as long as there is somebody to deal to, and deal; all that there are where `most` is None."""
        while most is None or most > 0:
            channel = self._next()
            if channel is None and most is not None:
                return
            try:
                sock, peer = listener.take()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Nobody waits, a worker of another generation was faster, or the client has gone.
                return
            except OSError as error:
                if error.errno != errno.EINVAL:  # that is a Unix socket that was shut down, and whose queue is empty
                    self._complain(error)
                    self._rest_a_while()
                return
            accepted = Accepted(sock, peer, listener.local, listener.scheme)
            if channel is None or not self._deal(channel, accepted):
                self._waiting.append(accepted)
            if most is not None:
                most -= 1

    def _rest_a_while(self) -> None:
        """What is missing would be missing again at once."""
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
            self._log.error(f"clusterd cannot accept connections: {error.strerror}; they wait in the kernel's queue")
