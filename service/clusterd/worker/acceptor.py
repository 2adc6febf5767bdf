"""Connections are accepted on the loop; a thread waits for them, and hears the bell of this worker.

Measured with 16 workers on one listening socket, in context switches per connection: a reader in each event loop
16 (the whole herd wakes up), EPOLLEXCLUSIVE on an epoll that is itself nested in the loop's 16, a thread of its
own in epoll_wait with EPOLLEXCLUSIVE 1.6. A thread blocked in accept() is fair and cheap too, but nothing wakes it
up to stop, and what it accepts at that moment is lost.

The kernel wakes one worker for a connection, mostly the one that slept last, and tells nobody else. So whoever
does not take what it was woken for has to call another one: the worker that is ahead of the others or has no free
thread rings the bell of the least loaded, and the thread rings it for a loop that does not turn. What a worker
was woken for that can not even do that (C code that holds the GIL, a SIGSTOP), the others find when they look
around at their ticks.
"""

import asyncio
import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from clusterd.linux.bells import silence
from clusterd.worker.balance import Gate, Turn

BUSY_SECONDS = 0.005
"""A loop that does not turn for so long is busy: another worker is called."""
GIVE_WAY_SECONDS = 0.005
"""How long the worker that was called has to take a connection. It nearly always does within a tenth of it."""
FULL_SECONDS = 0.05
"""How often a full worker looks whether it has room again, where nothing tells it."""
ACCEPTS_A_TURN = 64
"""Then other connections have their turn."""


class Acceptor:
    """Accepts on every listener while it is this worker's turn. All but `_watch` is called on the loop.

    `failed` is called when the thread can not go on: a worker that accepts nothing must not look ready.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        gate: Gate,
        bell: int,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[socket.socket], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._listeners = tuple(listeners)
        self._gate = gate
        self._bell = bell
        self._loop = loop
        self._accepted = accepted
        self._failed = failed
        self._asked_at: float | None = None
        """When the thread asked the loop to accept, until the loop begins to."""
        self._again: asyncio.TimerHandle | None = None
        self._is_queued = False
        self._is_stopped = False
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        for descriptor in (self._stop, self._bell):
            self._epoll.register(descriptor, select.EPOLLIN)
        self._join_queue()
        self._thread = threading.Thread(target=self._run, name="clusterd-acceptor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more."""
        self._is_stopped = True
        self._cancel_again()
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._stop)

    # ---- on the thread

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._failed, error)

    def _watch(self) -> None:
        has_called = False
        while True:
            # The listeners are edge-triggered: they wake this thread once for each connection that arrives.
            is_asking = self._asked_at is not None
            ready = {
                descriptor for descriptor, _ in self._epoll.poll(BUSY_SECONDS if is_asking and not has_called else None)
            }
            if self._stop in ready:
                return
            if self._bell in ready:
                silence(self._bell)
            asked_at = self._asked_at
            if asked_at is None:
                if ready:
                    has_called = False
                    self._asked_at = monotonic()
                    self._loop.call_soon_threadsafe(self.accept)
            elif monotonic() - asked_at >= BUSY_SECONDS and ready != {self._bell}:
                # Once for the time that has passed, and again for what arrives. Not for the bell: two workers that
                # are both busy would ring each other without end.
                has_called = True
                self._gate.call_another()

    # ---- on the loop

    def accept(self) -> None:
        """Accept what waits, as long as it is this worker's turn."""
        # First of all: what arrives from now on makes the thread ask again.
        self._asked_at = None
        self._accept(insist=False)

    def _accept(self, *, insist: bool) -> None:
        """With `insist`, another worker was called and has not come: one connection is taken in its place."""
        if self._is_stopped:
            return
        self._cancel_again()
        left = ACCEPTS_A_TURN
        for listener in self._listeners:
            while left:
                turn = self._gate.turn()
                if turn is Turn.GIVE_WAY and insist:
                    insist = False
                elif turn is not Turn.ACCEPT:
                    self._decline(turn)
                    return
                connection = self._accept_one(listener)
                if connection is None:
                    break
                left -= 1
                self._accepted(connection)
        self._join_queue()
        if not left:
            self._again = self._loop.call_later(0, self.accept)

    def _accept_one(self, listener: socket.socket) -> socket.socket | None:
        try:
            return listener.accept()[0]
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker was faster, or the client has gone.
            return None
        except OSError:
            # Out of descriptors or memory: the connection waits in the kernel's queue meanwhile.
            self._look_again(FULL_SECONDS)
            return None

    def _decline(self, turn: Turn) -> None:
        if turn is Turn.FULL:
            # Out of the kernel's queue: what arrives wakes another worker.
            self._leave_queue()
            self._look_again(FULL_SECONDS)
        else:
            self._join_queue()
        if self._is_something_waiting():
            self._gate.call_better()
            if turn is Turn.GIVE_WAY:
                self._look_again(GIVE_WAY_SECONDS)

    def _is_something_waiting(self) -> bool:
        poll = select.poll()
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

    def _join_queue(self) -> None:
        if not self._is_queued:
            self._is_queued = True
            for listener in self._listeners:
                self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE | select.EPOLLET)

    def _leave_queue(self) -> None:
        if self._is_queued:
            self._is_queued = False
            for listener in self._listeners:
                self._epoll.unregister(listener)
