"""Gives the connections of a worker that hangs to other workers, before it is killed.

A worker whose event loop does not turn cannot hand over anything. But between two requests a connection is only a
socket, and the worker says in shared memory which of its connections are (wire/in_hand.py). So the master stops it,
takes duplicates of these sockets, and passes them on as a worker would (wire/passing.py). The requests that it has in
hand are lost with it, and nothing else.
"""

import errno
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic

from clusterd.linux.address import Address
from clusterd.linux.descriptors import duplicate_of
from clusterd.master.children.child import Child
from clusterd.master.context import MasterContext
from clusterd.master.sockets.dispatch_channel import is_silent
from clusterd.metrics.kernel.procfs import is_stopped
from clusterd.records import dataclass
from clusterd.supervisor.actions import Retire
from clusterd.supervisor.model.states import WorkerState
from clusterd.wire import messages
from clusterd.wire.connection_state import CarriedState
from clusterd.wire.offers import OfferSender
from clusterd.wire.packets import socketpair

RESCUE_SECONDS = 1.0
"""How long a rescue may take. Then the worker is killed with what it still has."""
LOOK_SECONDS = 0.002
TURN_CONNECTIONS = 100
"""How many connections are taken before the master's loop turns."""
_HOURS = 3600.0


@dataclass(frozen=True, slots=True)
class _Taken:
    """The duplicate of a connection, and its descriptor in the worker that hangs."""

    socket: socket.socket
    descriptor: int


class Rescuer:
    """Rescues connections of any number of workers."""

    def __init__(self, context: MasterContext) -> None:
        self._context = context

    def rescue(self, child: Child, then: Callable[[], None]) -> None:
        """Give away what `child` can spare, and call `then`, which kills it."""
        takers = self._takers(child)
        if child.row is None or child.pid is None or not takers:
            then()
            return
        try:
            if is_silent(self._context.scoreboard.row(child.row), monotonic()):
                _Rescue(self._context, child, takers, then).begin()
            else:
                self._have_it_hand_over(child, takers[0], then)
        except OSError:  # It has died, or descriptors have run out.
            then()

    def _takers(self, child: Child) -> list[Child]:
        """The workers that can take connections now, also beyond their limits, the least loaded first."""
        now, found = monotonic(), []
        for worker in self._context.cluster.table.in_state(WorkerState.READY):
            taker = self._context.children.get(worker.serial)
            if taker is None or taker is child or taker.row is None:
                continue
            row = self._context.scoreboard.row(taker.row)
            if not is_silent(row, now):
                found.append((row.connections, worker.serial, taker))
        return [taker for _, _, taker in sorted(found, key=lambda each: each[:2])]

    def _have_it_hand_over(self, child: Child, taker: Child, then: Callable[[], None]) -> None:
        """The event loop turns: only the threads hang. So the worker hands over by itself, as in a drain."""
        if child.row is None:
            return
        self._context.processes.retire(Retire(child.serial, taker.serial, _HOURS, _HOURS, linger=False))
        row, until = self._context.scoreboard.row(child.row), monotonic() + RESCUE_SECONDS

        def look() -> None:
            is_alive = self._context.children.get(child.serial) is child
            if is_alive and row.connections > row.in_flight and monotonic() < until:
                self._context.loop.call_later(LOOK_SECONDS, look)
            else:
                then()

        look()


class _Rescue:
    """One rescue, from the stop of the worker to its kill."""

    def __init__(self, context: MasterContext, child: Child, takers: list[Child], then: Callable[[], None]) -> None:
        self._context = context
        self._loop = context.loop
        self._child = child
        self._takers = takers
        self._then = then
        self._until = monotonic() + RESCUE_SECONDS
        self._addresses = {_listened(sock) for sock in context.listeners.http}
        self._taken: deque[_Taken] = deque()
        self._senders: list[OfferSender[_Taken]] = []
        self._rescued = 0
        self._is_taking = True
        self._is_over = False

    def begin(self) -> None:
        """Stop the worker. The rest follows on the loop."""
        self._context.children.signal(self._child, signal.SIGSTOP)
        self._loop.call_later(RESCUE_SECONDS, self._end)
        self._wait_for_stop()

    def _wait_for_stop(self) -> None:
        if self._is_over or self._child.pid is None:
            return
        try:
            has_stopped = is_stopped(self._child.pid)
        except ProcessLookupError:  # It has died by itself.
            self._end()
            return
        if not has_stopped:
            self._loop.call_later(LOOK_SECONDS, self._wait_for_stop)
            return
        try:
            self._open_senders()
            self._take(self._connections())
        except OSError as error:
            self._fail(error)

    def _open_senders(self) -> None:
        for taker in self._takers:
            ours, theirs = socketpair()
            with theirs:
                self._senders.append(OfferSender(ours, self._loop, self._read))
                self._context.children.send(taker, messages.Adopt(), theirs.fileno())

    # ---- the sockets

    def _connections(self) -> Iterator[_Taken | None]:
        """Yield duplicates of the connections between two requests; None for one that is none any more."""
        assert self._child.pid is not None
        assert self._child.row is not None
        process = os.pidfd_open(self._child.pid)
        try:
            for descriptor in self._context.scoreboard.movable(self._child.row):
                try:
                    found = self._checked(duplicate_of(process, descriptor))
                except OSError as error:
                    if error.errno != errno.EBADF:
                        raise
                    found = None
                yield None if found is None else _Taken(found, descriptor)
        finally:
            os.close(process)

    def _checked(self, descriptor: int) -> socket.socket | None:
        """Return the socket if it is a client's. A worker may have closed one, and opened another file."""
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            return None
        try:
            found.getpeername()
            is_ours = _listened(found) in self._addresses or _anywhere(found) in self._addresses
            if is_ours and found.type == socket.SOCK_STREAM:
                return found
        except OSError:
            pass
        found.close()
        return None

    def _take(self, connections: Iterator[_Taken | None]) -> None:
        """Take some connections, and go on in the loop's next round."""
        if self._is_over:
            return
        try:
            for _ in range(TURN_CONNECTIONS):
                found = next(connections)
                if found is not None:
                    self._taken.append(found)
        except StopIteration:
            self._is_taking = False
        except OSError as error:
            self._fail(error)
            return
        self._offer()
        if self._is_taking:
            self._loop.call_soon(self._take, connections)

    # ---- the offers

    def _offer(self) -> None:
        """Offer what is taken, in turn. Those who cannot take it now are asked again when they can."""
        ready = list(self._senders)
        while self._taken and ready:
            for sender in tuple(ready):
                if not self._taken:
                    break
                taken = self._taken[0]
                # Before the offer, because a next master must not give it to yet another worker.
                self._set_movable(taken, movable=False)
                try:
                    sender.offer(taken, taken.socket.fileno(), _carried(taken.socket).to_json(), given=True)
                except BlockingIOError:
                    self._set_movable(taken, movable=True)
                    sender.call_when_writable(self._offer)
                    ready.remove(sender)
                except OSError:  # That worker has died, as its last answers will tell.
                    self._set_movable(taken, movable=True)
                    ready.remove(sender)
                else:
                    self._taken.popleft()
        self._end_if_done()

    def _set_movable(self, taken: _Taken, *, movable: bool) -> None:
        assert self._child.row is not None
        with suppress(OSError):
            self._context.scoreboard.set_movable(self._child.row, taken.descriptor, movable=movable)

    def _read(self) -> None:
        for sender in tuple(self._senders):
            for taken, declined in sender.answers():
                self._rescued += declined is None
                taken.socket.close()
            if sender.has_ended:
                self._senders.remove(sender)
                self._taken.extend(sender.close())
        self._offer()

    def _end_if_done(self) -> None:
        is_waiting = (self._taken and self._senders) or any(len(sender) for sender in self._senders)
        if not self._is_taking and not is_waiting:
            self._end()

    def _fail(self, error: OSError) -> None:
        what = "the connections of a worker that hangs are lost with it: they cannot be given to others"
        self._context.log.warning(f"{what}: {error.strerror or error}", **self._child.fields())
        self._end()

    def _end(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        for sender in self._senders:
            for taken in sender.close():
                taken.socket.close()
        for taken in self._taken:
            taken.socket.close()
        if self._rescued:
            what = "gave the connections of a worker that hangs to other workers"
            self._context.log.info(what, **self._child.fields(), connections=self._rescued)
        self._then()


def _listened(sock: socket.socket) -> tuple[int, object]:
    """The family and the own address of a socket."""
    name = sock.getsockname()
    return sock.family, name if sock.family == socket.AF_UNIX else name[:2]


def _anywhere(sock: socket.socket) -> tuple[int, object]:
    """The same of the socket that listens at all addresses, for a connection that it has accepted."""
    if sock.family == socket.AF_UNIX:
        return _listened(sock)
    return sock.family, ("::" if sock.family == socket.AF_INET6 else "0.0.0.0", sock.getsockname()[1])


def _carried(sock: socket.socket) -> CarriedState:
    """The state of a connection that has answered requests, and of which nothing was read since."""
    if sock.family == socket.AF_UNIX:
        return CarriedState(b"", None, None, "http", 1)
    return CarriedState(b"", _address(sock.getpeername()), _address(sock.getsockname()), "http", 1)


def _address(name: tuple[str, int]) -> Address:
    return name[0], name[1]
