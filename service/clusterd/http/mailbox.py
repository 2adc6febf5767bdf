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

    def _deliver(self) -> None:
        # Cleared before the queue is read: who appends from now on sees it cleared, and wakes us for another turn. Only
        # what is here now is delivered: threads that post without end must not keep the loop.
        self._woken = False
        for _ in range(len(self._calls)):
            call, arguments = self._calls.popleft()
            call(*arguments)
