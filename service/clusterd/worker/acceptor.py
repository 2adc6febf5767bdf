"""A thread that accepts connections for the worker's loop.

Measured with 16 workers on one listening socket, in context switches per connection: a reader in
each event loop 16 (the whole herd wakes up), EPOLLEXCLUSIVE on an epoll that is itself nested in
the loop's 16, a thread of its own in epoll_wait with EPOLLEXCLUSIVE 1.6. A thread blocked in
accept() is fair and cheap too, but nothing wakes it up to stop, and what it accepts at that
moment is lost.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Sequence

from clusterd.worker.balance import Gate, Turn

GIVE_WAY_SECONDS = 0.001
FULL_SECONDS = 0.01
"""How often a full worker looks whether it has room again."""


class Acceptor:
    """Accepts on every listener while the gate is open; `deliver` is called on the acceptor's thread."""

    def __init__(
        self, listeners: Sequence[socket.socket], gate: Gate, deliver: Callable[[socket.socket], None]
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._gate = gate
        self._deliver = deliver
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="clusterd-acceptor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more. When this returns, everything accepted has been delivered."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        with select.epoll() as epoll:
            epoll.register(self._wake, select.EPOLLIN)
            while self._wait_for_room(epoll):
                for listener in self._listeners:
                    epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
                stopped = not self._accept_while_there_is_room(epoll)
                # Out of the kernel's queue while it is full: what arrives wakes another worker.
                for listener in self._listeners:
                    epoll.unregister(listener)
                if stopped:
                    return

    def _wait_for_room(self, epoll: select.epoll) -> bool:
        """False when it was time to stop."""
        while self._gate.turn() is Turn.FULL:
            if epoll.poll(FULL_SECONDS):
                return False
        return True

    def _accept_while_there_is_room(self, epoll: select.epoll) -> bool:
        """False when it was time to stop; True when the worker is full."""
        while True:
            ready = [descriptor for descriptor, _ in epoll.poll()]
            if self._wake in ready:
                return False
            turn = self._gate.turn()
            if turn is Turn.GIVE_WAY:
                # Long enough for a worker that has less to do to take it; short enough for a lone client.
                with select.epoll() as pause:
                    pause.register(self._wake, select.EPOLLIN)
                    if pause.poll(GIVE_WAY_SECONDS):
                        return False
            for descriptor in ready:
                if turn is not Turn.FULL:
                    self._accept_one(self._listeners[descriptor])
                    turn = self._gate.turn()
            if turn is Turn.FULL:
                return True

    def _accept_one(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            # Another worker was faster, or the client has gone.
            return
        except OSError:
            # Out of descriptors or memory: the connection waits in the kernel's queue meanwhile.
            threading.Event().wait(FULL_SECONDS)
            return
        self._deliver(connection)
