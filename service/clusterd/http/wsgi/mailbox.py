"""Passes calls from the threads to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Makes calls that any thread posts, in their order, on the loop's thread. One wake-up serves many calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._woken = False

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Have `call` made on the loop's thread soon. Thread-safe. Does nothing if the loop is closed."""
        self._calls.append((call, arguments))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                pass  # The loop is closed: the process exits, and the connection is gone.

    def hold(self) -> None:
        """Do not wake the loop until `release`. The caller has the loop and does not run it now."""
        self._woken = True

    def release(self) -> None:
        """End `hold`. The loop makes the calls that were posted in the meantime at its next turn."""
        self._woken = False
        if self._calls:
            self._loop.call_soon(self._deliver)

    def deliver_held(self) -> None:
        """Make the calls that were posted, between `hold` and `release`."""
        if self._calls:
            self._make_calls()

    def _deliver(self) -> None:
        # Cleared before the queue is read: a thread that posts after the last read sees it cleared, and wakes the loop.
        self._woken = False
        self._make_calls()

    def _make_calls(self) -> None:
        # Only as many calls as are here now: threads that keep posting must not starve the connections.
        for _ in range(len(self._calls)):
            call, arguments = self._calls.popleft()
            try:
                call(*arguments)
            except Exception as error:  # The calls after it belong to other requests.
                self._loop.call_exception_handler({"message": "a call from a thread failed", "exception": error})
