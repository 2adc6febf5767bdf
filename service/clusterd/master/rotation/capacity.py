"""How much of what a service can do is free, as a part between 0 and 1: pure, from what its workers were seen to do.

Four things reduce it, and multiply: slots without a ready worker, workers that are busy, requests that wait
(`crowding`), and requests that take longer than is usual here (`usual.py`).
"""

import math
from collections.abc import Iterable

from clusterd.records import dataclass

EASY = 0.5
"""A worker that is no busier than this has all its room."""
ROOM_IF_BUSY = 0.6
"""What a worker has whose threads, or whose event loop, are always busy."""
UNNOTICED_SECONDS = 0.01
"""Requests that wait no longer than this until the application is called do not count."""
HALVING_SECONDS = 0.1
"""A service in which requests wait for so much longer counts half."""
CHANGE_A_SECOND = 1.05
"""By which factor that may change in a second. What waits answers to a change of the load only after seconds, so that a
faster one would have load swing between hosts."""
LEAST_CROWDING = 0.05


@dataclass(frozen=True, slots=True)
class Worked:
    """What one ready worker has done since the last look."""

    busy: float
    """The part of the time in which its threads, or its event loop, were busy: 0 to 1."""
    waited: float
    """How long requests have waited in it, in seconds."""


def room(busy: float) -> float:
    """How much more a worker could do that is `busy` for this part of the time."""
    excess = max(0.0, min(busy, 1.0) - EASY) / (1.0 - EASY)
    return 1.0 - (1.0 - ROOM_IF_BUSY) * excess


def free_capacity(workers: Iterable[Worked], wanted: int) -> float:
    """The free part of what `wanted` workers can do, 0 to 1, if nothing waits."""
    return min(1.0, sum(room(each.busy) for each in workers) / max(1, wanted))


def crowding(before: float, workers: Iterable[Worked], seconds: float) -> float:
    """How much the requests that wait leave of that, `seconds` after it was `before`."""
    waits = [each.waited for each in workers]
    waited = max(0.0, sum(waits) / max(1, len(waits)) - UNNOTICED_SECONDS)
    target = 1.0 / (1.0 + waited / HALVING_SECONDS)
    factor = math.pow(CHANGE_A_SECOND, max(0.0, seconds))
    return max(LEAST_CROWDING, min(1.0, max(before / factor, min(before * factor, target))))
