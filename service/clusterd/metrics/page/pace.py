"""How long the page may keep the master's loop from its other work."""

import asyncio
import time

SLICE_SECONDS = 0.002


class Pace:
    """Measures how long a task works, and lets the loop do its other work in between."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def rest_if_due(self) -> None:
        """Let the loop turn if this task has worked for SLICE_SECONDS. Call it after each piece of work."""
        if time.perf_counter() - self._since >= SLICE_SECONDS:
            await self.rest()

    async def rest(self) -> None:
        """Let the loop turn."""
        await asyncio.sleep(0)
        self._since = time.perf_counter()
