"""A place among the workers that wait for a connection.

The kernel wakes everybody who watches a socket, unless all watch it with EPOLLEXCLUSIVE (epoll_ctl(2)): then it
wakes one, and only one that waits in epoll_wait at that moment, so never one whose loop is busy. asyncio has no
word for it, and an epoll of our own does not do: nested in the loop's it wakes the whole herd again, and a thread
for it costs more switches and fights the loop for the interpreter. So the listeners are put into the loop's own
epoll. Measured with 16 workers, in context switches per connection: readers as asyncio adds them 16, nested 16, a
thread 1.6 and as many again between it and the loop, this way 1.01.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, cast


class Place(Enum):
    """Where this worker stands."""

    STARTING = auto()
    """libuv has not added the listeners yet, or as everybody's."""
    OUT = auto()
    IN = auto()


class ExclusiveListeners:
    """Has `arrived` called on the loop when this worker is woken for a connection, while it has joined.

    Edge-triggered: once for each time that something arrives, not again for what was left.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listeners: Sequence[socket.socket], arrived: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._listeners = tuple(listeners)
        # uv_backend_fd() by uvloop's name for it; a copy, so that closing it leaves the loop its own.
        self._epoll = select.epoll.fromfd(os.dup(cast(Any, loop)._get_backend_id()))  # noqa: SLF001
        self._place = Place.STARTING
        self._wants_in = False
        for listener in self._listeners:
            # libuv has to know whom to call. With the next poll it adds the listener as everybody else would.
            loop.add_reader(listener.fileno(), arrived)
        loop.call_soon(self._take_over)

    def join(self) -> None:
        """Be one of those who may be woken; at once, if something waits already."""
        self._wants_in = True
        if self._place is Place.OUT:
            self._place = Place.IN
            for listener in self._listeners:
                self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE | select.EPOLLET)

    def leave(self) -> None:
        """Be passed over."""
        self._wants_in = False
        if self._place is Place.IN:
            self._place = Place.OUT
            for listener in self._listeners:
                self._epoll.unregister(listener)

    def close(self) -> None:
        """Leave for good."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._epoll.close()

    def _take_over(self) -> None:
        """Take out what libuv has added: from then on the listeners are in only while this worker has joined."""
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
