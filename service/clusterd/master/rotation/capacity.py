"""How much of what a service can do is free, as a part between 0 and 1: pure, from what its workers were seen to do.

Three things reduce it, and multiply:

- a slot without a ready worker counts nothing;
- a worker counts less while it is busy, and much less while requests wait in it (ROOM_BY_WAIT);
- all count less while requests take longer than is usual here (`usual.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

EASY = 0.5
"""A worker that is no busier than this has all its room."""
ROOM_IF_BUSY = 0.6
"""What a worker has whose threads, or whose event loop, are always busy, while nothing waits in it."""
ROOM_BY_WAIT = (
    (0.010, 1.0),
    (0.025, 0.7),
    (0.050, 0.5),
    (0.100, 0.35),
    (0.250, 0.2),
    (0.500, 0.1),
    (1.0, 0.05),
)
"""The room of a worker in which requests wait for up to so many seconds until the application is called."""
LEAST_ROOM = 0.01
"""Of a worker in which they wait longer."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What one ready worker has done since the last look."""

    busy: float
    """The part of the time in which its threads, or its event loop, were busy: 0 to 1."""
    waited: float
    """How long requests have waited in it, in seconds."""


def room(worker: Worked) -> float:
    """How much more one worker could do."""
    excess = max(0.0, min(worker.busy, 1.0) - EASY) / (1.0 - EASY)
    waiting = next((share for seconds, share in ROOM_BY_WAIT if worker.waited <= seconds), LEAST_ROOM)
    return waiting * (1.0 - (1.0 - ROOM_IF_BUSY) * excess)


def free_capacity(workers: Iterable[Worked], wanted: int, pace: float) -> float:
    """The free part of what `wanted` workers can do at their usual pace, of which they have `pace`: 0 to 1."""
    return min(1.0, sum(map(room, workers)) / max(1, wanted)) * pace
