"""The first step of a stop: close the sockets that end with the service, without resetting a client.

It happens before anything else stops, so that workers can take the clients that wait in the backlogs. Sockets that
systemd keeps for the next start are not touched.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

from clusterd.linux.listening import is_local, refuse_new
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.log import Logger
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.supervisor.events import StopAsked, Urgency
from clusterd.systemd.sockets import address_text

LOOK_SECONDS = 0.01
"""The time between two looks into a backlog. A handshake that a local client has begun is complete by then."""

HANDSHAKE_SECONDS = 0.5
"""The time allowed for a handshake that a remote client has begun."""

DISPATCH_SHARE = 0.5
"""The fraction of timeouts.drain that workers may use, before they are told to drain, to take the connections from the
backlogs. It is only used if these are more than the dispatch channels hold, and no worker's event loop turns."""

CERTAIN_SECONDS = 0.5
"""How long systemd must keep its sockets before the workers are told to drain. `systemctl stop SERVICE SOCKET` requests
the two stops one after the other; 0.1 seconds were measured between them."""

CERTAIN_LOOKS = 2
"""How often systemd is asked during CERTAIN_SECONDS."""

ASK_EVERY_SECONDS = 1.0
"""How often systemd is asked during the drain."""


class Closing:
    """Holds back a stop until the sockets that end with it are closed.

    `kept` returns the names of the sockets that systemd keeps. It returns None if that is not known; in that case every
    passed socket counts as kept. `drain_seconds` returns timeouts.drain of the generation that serves. `stop` is called
    with the event that was held back.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Listeners,
        round_robin: RoundRobin,
        kept: Callable[[], Awaitable[Collection[str] | None]],
        drain_seconds: Callable[[], float],
        stop: Callable[[StopAsked], None],
        log: Logger,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._round_robin = round_robin
        self._kept = kept
        self._drain_seconds = drain_seconds
        self._stop = stop
        self._log = log
        self._held_back: StopAsked | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed: set[ListeningSocket] = set()

    @property
    def is_under_way(self) -> bool:
        """Whether a stop is held back."""
        return self._held_back is not None

    def holds_back(self, event: StopAsked) -> bool:
        """Whether `event` must wait and is passed to `stop` later. One that is urgent ends the wait.

        Before the first start has succeeded there is no worker to take the connections in the backlogs, so the stop
        does not wait.
        """
        if self._held_back is not None and event.urgency is Urgency.DRAIN:
            return True
        if self._task is None and event.urgency is not Urgency.AT_ONCE and self._round_robin.has_workers:
            self._held_back = event
            self._task = self._loop.create_task(self._run())
            return True
        if self._task is not None:
            self._task.cancel()
        self._go_on()
        return False

    async def end(self) -> None:
        """End the task, because the service has stopped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _go_on(self) -> None:
        event, self._held_back = self._held_back, None
        if event is not None:
            self._stop(event)

    async def _run(self) -> None:
        is_left = False
        try:
            is_left = await self._close()
            for _ in range(CERTAIN_LOOKS):
                if is_left:
                    await asyncio.sleep(CERTAIN_SECONDS / CERTAIN_LOOKS)
                    is_left = await self._close()
        except Exception as error:
            self._log.exception("the sockets were not closed before the stop", error)
        self._go_on()
        while is_left:
            await asyncio.sleep(ASK_EVERY_SECONDS)
            is_left = await self._close()

    async def _close(self) -> bool:
        """Close the sockets that systemd does not keep.

        Returns True if systemd keeps some now. It may close them later, so it must be asked again.
        """
        passed = {each.scheme for each in self._listeners.public} if self._listeners.has_passed else set()
        kept = await self._kept() if passed else ()
        closing = set(self._listeners.closing(passed if kept is None else kept)) - self._closed
        if closing:
            self._closed |= closing
            for listener in closing:
                refuse_new(listener)
            self._log.info(f"new clients are refused: {' '.join(sorted(map(address_text, closing)))}")
            await self._empty(closing)
        return kept is not None and self._closed != set(self._listeners.public)

    async def _empty(self, listeners: Collection[ListeningSocket]) -> None:
        """Have the workers take the connections in the backlogs, and those whose handshake is not complete yet."""
        looks_until = self._loop.time() + (LOOK_SECONDS if all(map(is_local, listeners)) else HANDSHAKE_SECONDS)
        self._round_robin.take_the_rest(listeners)
        while self._loop.time() < looks_until:
            await asyncio.sleep(LOOK_SECONDS)
            self._round_robin.take_the_rest(listeners)
        with contextlib.suppress(TimeoutError):  # The rest is dispatched during the drain.
            await asyncio.wait_for(self._round_robin.has_dispatched_all.wait(), self._drain_seconds() * DISPATCH_SHARE)
