"""Watches the listeners so that the kernel wakes only one idle worker for a connection.

The kernel wakes every process that watches a socket, unless all watch it with EPOLLEXCLUSIVE (epoll_ctl(2)). Then it
wakes one, and only one that waits in epoll_wait at that moment, so never one whose loop is busy. asyncio does not offer
this flag. A separate epoll does not help: nested in the loop's epoll it wakes all workers again, and a thread for it
costs more context switches and competes with the loop for the interpreter. So this module adds the listeners to the
loop's own epoll. Context switches for each connection, measured with 16 workers: 16 with readers as asyncio adds them,
16 with a nested epoll, 1.6 with a thread and as many again between it and the loop, and 1.01 this way.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, cast

from clusterd.http.connection_source import Arrival
from clusterd.runtime import originals

# On Python 3.11 access to an enum's attribute costs four times as much as to a name of the module.
_NOTHING, _CONNECTIONS, _OTHER, _BOTH = Arrival.NOTHING, Arrival.CONNECTIONS, Arrival.OTHER, Arrival.BOTH


class Place(Enum):
    """Whether this worker may be woken for a connection."""

    STARTING = auto()
    """libuv has not added the listeners yet, or has added them without EPOLLEXCLUSIVE."""
    OUT = auto()
    IN = auto()


class ExclusiveListeners:
    """Calls `arrived` on the loop when this worker is woken for a connection, between `join` and `leave`.

    Edge-triggered: called once when connections arrive, and not again for those that were not accepted.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listeners: Sequence[socket.socket], arrived: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._listeners = tuple(listeners)
        self._descriptors = frozenset(listener.fileno() for listener in listeners)
        # This is uv_backend_fd(), as uvloop names it. Duplicated, so that closing it does not close the loop's own.
        self._epoll = originals.epoll.fromfd(os.dup(cast(Any, loop)._get_backend_id()))  # noqa: SLF001
        self._place = Place.STARTING
        self._wants_in = False
        for listener in self._listeners:
            # libuv must know which callback to call. At its next poll it adds the listener without EPOLLEXCLUSIVE.
            loop.add_reader(listener.fileno(), arrived)
        loop.call_soon(self._take_over)

    def join(self) -> None:
        """Let the kernel wake this worker; at once, if a connection waits already."""
        self._wants_in = True
        if self._place is Place.OUT:
            self._place = Place.IN
            for listener in self._listeners:
                self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE | select.EPOLLET)

    def leave(self) -> None:
        """Let the kernel wake only other workers."""
        self._wants_in = False
        if self._place is Place.IN:
            self._place = Place.OUT
            for listener in self._listeners:
                self._epoll.unregister(listener)

    def wait(self, seconds: float) -> Arrival:
        """Wait for connections and for what the loop, which stands still, has to handle."""
        connections = other = False
        for descriptor, _ in self._epoll.poll(seconds):
            if descriptor in self._descriptors:
                connections = True
            else:
                other = True
        if connections:
            return _BOTH if other else _CONNECTIONS
        return _OTHER if other else _NOTHING

    def close(self) -> None:
        """Stop watching the listeners, for good."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._epoll.close()

    def _take_over(self) -> None:
        """Remove what libuv has added. From then on the epoll has the listeners only while this worker has joined."""
        if self._epoll.closed:
            return
        try:
            for listener in self._listeners:
                self._epoll.unregister(listener)
        except FileNotFoundError:
            self._loop.call_soon(self._take_over)
            return
        self._place = Place.OUT
        if self._wants_in:
            self.join()
