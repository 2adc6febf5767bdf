"""Accepts connections as the accept policy decides.

The kernel wakes one worker for a connection, mostly the one that began to wait last. A worker that does not accept the
connection it was woken for therefore wakes another: if it has more connections than the others, or no free thread, it
writes to the wakeup eventfd of the least loaded worker. A worker may be unable to do even that, because one of its
threads holds the interpreter in C code or because it was stopped by a SIGSTOP. The others then find the connection when
they try to accept at their next ticks. A worker that the system gives no more descriptors does as a full one does.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from clusterd.http.connection_source import Arrival
from clusterd.linux.address import Address
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.wakeups import silence
from clusterd.runtime import originals
from clusterd.runtime.event_loop import has_work
from clusterd.worker.accepting.accept_policy import AcceptPolicy, Turn
from clusterd.worker.accepting.exclusive_listeners import ExclusiveListeners

GIVE_WAY_SECONDS = 0.005
"""How long a worker that was woken has to accept a connection. It nearly always does within a tenth of this time."""
FULL_SECONDS = 0.05
"""How often a full worker checks whether it has room again, if no event tells it."""
TURN_SECONDS = 0.002
"""How long the worker accepts before it serves its other connections. The limit is needed because a new connection is
answered within its accept if its request has already arrived."""


class Acceptor:
    """Accepts on every listener as the policy decides.

    `accepted` gets the listener, the connection and its peer's address. `shed` gets a connection to reject, and its
    scheme. `short` gets the number of the error (errno(3)) for which a connection could not be accepted.
    """

    def __init__(
        self,
        listeners: Sequence[ListeningSocket],
        policy: AcceptPolicy,
        wakeup: int,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[ListeningSocket, socket.socket, Address | None], None],
        shed: Callable[[socket.socket, str], None],
        short: Callable[[int], None],
    ) -> None:
        self._listeners = tuple(listeners)
        self._policy = policy
        self._wakeup = wakeup
        self._loop = loop
        self._accepted = accepted
        self._shed = shed
        self._short = short
        self._again: asyncio.TimerHandle | None = None
        self._next = 0
        """The listener that `accept_one` tries first: each has its turn."""
        self._is_stopped = False
        self._exclusive = ExclusiveListeners(loop, listeners, self.accept)
        loop.add_reader(wakeup, self._woken)
        self._exclusive.join()

    def stop(self) -> None:
        """Stop accepting, for good."""
        self._is_stopped = True
        self._cancel_again()
        self._loop.remove_reader(self._wakeup)
        self._exclusive.close()

    def accept(self) -> None:
        """Accept connections from the backlogs as long as the policy allows."""
        if not self._policy.leave_to_leader():
            self._accept(insist=False)

    # ---- as a ConnectionSource

    def has_loop_work(self) -> bool:
        """Whether something waits that only the loop can do."""
        return self._policy.is_entering or has_work(self._loop)

    def wait(self, seconds: float) -> Arrival:
        """Wait for connections and for what the loop has to handle."""
        return self._exclusive.wait(seconds)

    def accept_one(self) -> bool:
        """Accept a connection. Returns False if there is none, or if another worker should accept."""
        if self._is_stopped:
            return False
        self._cancel_again()
        self._policy.look()
        count = len(self._listeners)
        for number in range(self._next, self._next + count):
            turn = self._policy.turn()
            if turn is not Turn.ACCEPT and turn is not Turn.SHED:
                self._decline(turn)
                return False
            try:
                if self._accept_one(self._listeners[number % count], turn):
                    self._next = (number + 1) % count
                    return True
            except OSError as error:
                self._cannot_accept(error)
                return False
        self._exclusive.join()
        return False

    def accept_declined(self) -> None:
        """Accept what this worker has left to others, if anything. Called when it has a free thread again."""
        if self._again is not None:
            self._accept(insist=False)

    def _woken(self) -> None:
        silence(self._wakeup)
        self.accept()

    def _accept(self, *, insist: bool) -> None:
        """Accept. With `insist`, another worker was woken and did not accept: take one connection in its place."""
        if self._is_stopped:
            return
        self._cancel_again()
        self._policy.look()
        turn_ends = monotonic() + TURN_SECONDS
        for listener in self._listeners:
            while True:
                turn = self._policy.turn()
                if turn is Turn.GIVE_WAY and insist:
                    insist = False
                elif turn is not Turn.ACCEPT and turn is not Turn.SHED:
                    self._decline(turn)
                    return
                try:
                    if not self._accept_one(listener, turn):
                        break
                except OSError as error:
                    self._cannot_accept(error)
                    return
                if monotonic() >= turn_ends:
                    self._exclusive.join()
                    self._again = self._loop.call_later(0, self.accept)
                    return
        self._exclusive.join()

    def _accept_one(self, listener: ListeningSocket, turn: Turn) -> bool:
        """Whether there was a connection. Raises OSError if there are no descriptors, or no memory, for one."""
        try:
            connection, peer = listener.take()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker was faster, or the client has closed the connection.
            return False
        if turn is Turn.SHED:
            self._shed(connection, listener.scheme)
        else:
            self._accepted(listener, connection, peer)
        return True

    def _decline(self, turn: Turn) -> None:
        if turn is Turn.FULL:
            # While this worker does not wait, the kernel wakes another one for new connections.
            self._exclusive.leave()
            self._look_again(FULL_SECONDS)
        else:
            self._exclusive.join()
        if self._is_something_waiting():
            self._policy.call_better()
            if turn is Turn.GIVE_WAY:
                self._look_again(GIVE_WAY_SECONDS)

    def _cannot_accept(self, error: OSError) -> None:
        """Leave the connection in the backlog to another worker, and try again: no event tells that there is room."""
        self._exclusive.leave()
        self._look_again(FULL_SECONDS)
        self._policy.call_other()
        self._short(error.errno or 0)

    def _is_something_waiting(self) -> bool:
        poll = originals.poll()
        for listener in self._listeners:
            poll.register(listener, select.POLLIN)
        return bool(poll.poll(0))

    def _look_again(self, seconds: float) -> None:
        if self._again is None:
            self._again = self._loop.call_later(seconds, lambda: self._accept(insist=True))

    def _cancel_again(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
