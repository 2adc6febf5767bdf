"""Collects what a call has left behind whose client left within the response.

Errors hold the frames of the framework, and these hold the errors and the generator of the response. An idle worker
collects no garbage by itself, and the generator's `finally` would not run: Django, for one, would keep its connections
to databases.
"""

import asyncio
import gc
from time import monotonic

MOST_SHARE = 0.05
"""Of the loop's time, for collections of everything. One takes milliseconds, and more where much is in memory."""

YOUNG = 1
"""The generation of objects that are collected with those that are younger: it takes some hundred microseconds."""


class Garbage:
    """Of this process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop that will collect."""
        self._not_before = 0.0

    def collect_soon(self) -> None:
        """Collect what is young at the end of this turn of the loop, and the rest as soon as MOST_SHARE allows."""
        loop = asyncio.get_running_loop()
        loop.call_soon(gc.collect, YOUNG)
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(max(0.0, self._not_before - monotonic()), self._collect)

    def _collect(self) -> None:
        self._loop = None
        begun = monotonic()
        gc.collect()  # A generator that has sent for some time is in the oldest generation.
        ended = monotonic()
        self._not_before = ended + (ended - begun) / MOST_SHARE


GARBAGE = Garbage()
