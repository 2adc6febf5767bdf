"""The first part of a stop: closing the sockets that end with the service, without resetting a client.

It comes before anything else stops, so that there are workers for those who wait in the queues. Sockets that systemd
keeps for the next start stay as they are.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

from clusterd.linux.listening import hold_off, is_local, listen_again, refuse
from clusterd.log import Logger
from clusterd.master.dealer import Dealer
from clusterd.master.listeners import Listeners
from clusterd.supervisor.events import StopAsked
from clusterd.systemd.sockets import address_text
from clusterd.worker.sockets import ListeningSocket

LOOK_SECONDS = 0.01
"""Between two looks into a queue. A local client's handshake that has begun is over by then."""

HANDSHAKE_SECONDS = 0.5
"""For a handshake with a client that is far away. It costs new clients nothing: one whose SYN was dropped sends it
again after a second (RFC 6298, 2.1)."""

DEAL_SHARE = 0.5
"""The part of timeouts.drain that workers may take, before they are told to drain, to make room for what was in the
queues: only where it is more than can be on its way to them at the same time, and none of their loops turns."""

ASK_EVERY_SECONDS = 1.0
"""How often systemd is asked, during a drain, whether it still keeps its sockets: the stop of a socket unit may be
asked for after that of the service."""


class Closing:
    """Holds back the stop until the sockets are closed that end with it.

    `kept` returns the names of the sockets that systemd keeps, or None when that is not known: then it keeps all that
    it has passed. `drain_seconds` is the timeouts.drain of what serves. `stop` is called with the event held back.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Listeners,
        dealer: Dealer,
        kept: Callable[[], Awaitable[Collection[str] | None]],
        drain_seconds: Callable[[], float],
        stop: Callable[[StopAsked], None],
        log: Logger,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._dealer = dealer
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
        """Whether `event` has to wait, and is passed to `stop` later. A second stop, or one at once, ends the wait."""
        if self._task is None and not event.at_once:
            self._held_back = event
            self._task = self._loop.create_task(self._run())
            return True
        self._go_on()
        return False

    async def end(self) -> None:
        """The service has stopped. systemd, which closes its sockets now, finds them as it has made them."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for listener in self._closed - set(self._listeners.bound):
            listen_again(listener)

    def _go_on(self) -> None:
        event, self._held_back = self._held_back, None
        if event is not None:
            self._stop(event)

    async def _run(self) -> None:
        try:
            is_known = await self._close()
        except Exception as error:
            is_known = False
            self._log.exception("the sockets were not closed before the stop", error)
        self._go_on()
        while is_known and self._closed != set(self._listeners.public):
            await asyncio.sleep(ASK_EVERY_SECONDS)
            is_known = await self._close()

    async def _close(self) -> bool:
        """Close what is not kept. False where nothing is known of what is, and so nothing is left to be asked."""
        passed = {each.scheme for each in self._listeners.public} if self._listeners.has_passed else set()
        kept = await self._kept() if passed else ()
        closing = set(self._listeners.closing(passed if kept is None else kept)) - self._closed
        if closing:
            self._closed |= closing
            await self._empty(closing)
            self._log.info(f"new clients are refused: {' '.join(sorted(map(address_text, closing)))}")
            with contextlib.suppress(TimeoutError):  # the rest is dealt during the drain
                await asyncio.wait_for(self._dealer.has_dealt_all.wait(), self._drain_seconds() * DEAL_SHARE)
        return kept is not None

    async def _empty(self, listeners: Collection[ListeningSocket]) -> None:
        """Shut the door, serve those who are inside, and tell others to go away."""
        for listener in listeners:
            hold_off(listener)
        now = self._loop.time()
        looks_until = now + (LOOK_SECONDS if all(map(is_local, listeners)) else HANDSHAKE_SECONDS)
        self._dealer.take_the_rest(listeners)
        while self._loop.time() < looks_until:
            await asyncio.sleep(LOOK_SECONDS)
            self._dealer.take_the_rest(listeners)
        for listener in listeners:
            refuse(listener)
