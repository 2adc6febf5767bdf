"""The way from the threads to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Calls posted by any thread, made on the loop's thread in their order; one wake-up serves many of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Have `call` made on the loop's thread soon. Thread-safe; quietly nothing once the loop is closed."""
        self._calls.append((call, arguments))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                pass  # the loop is closed: the process is leaving, and the connection is gone

    def hold(self) -> None:
        """Wake nobody: whoever says so has the loop, is not running it now, and will say `release`."""
        self._woken = True

    def release(self) -> None:
        """Wake the loop again, and deliver when it turns next what was posted meanwhile."""
        self._woken = False
        if self._calls:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        # Cleared before the queue is emptied: who appends after the last look sees it cleared, and wakes us.
        self._woken = False
        # No more than is here now: threads that keep posting must not keep the loop from its connections.
        for _ in range(len(self._calls)):
            call, arguments = self._calls.popleft()
            try:
                call(*arguments)
            except Exception as error:  # the calls behind it belong to other requests
                self._loop.call_exception_handler({"message": "a call from a thread failed", "exception": error})
