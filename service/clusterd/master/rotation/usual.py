"""Whether requests take longer than is usual on this host. A host that has become slow should get fewer.

What counts is the time in the application alone. The time that requests wait for it is judged by itself
(`capacity.py`), or a burst would look like a slow host.
"""

from collections import deque
from dataclasses import field

from clusterd.records import dataclass

PERIOD_SECONDS = 10.0
REMEMBERED_SECONDS = 3600.0
FEWEST = 100
"""The requests that a period must have to say what is usual. The mean of fewer says little."""
FEWEST_NOW = 10
"""The requests from which the present pace is judged."""
TOLERATED = 2.0
"""Requests that take up to so many times as long as usual change nothing."""
LEAST_PACE = 0.1
JUDGED_SECONDS = 30.0
"""A pace is believed for so long, if too few requests follow to judge it anew."""


@dataclass(slots=True)
class Usual:
    """Remembers the mean times of periods. The lowest one is what is usual. Times are in seconds."""

    _means: deque[tuple[float, float]] = field(default_factory=deque)
    """When each period has ended, and its mean."""
    _began: float | None = None
    _seconds: float = 0.0
    _count: int = 0
    _pace: float = 1.0
    _judged_at: float = 0.0
    _seconds_now: float = 0.0
    _count_now: int = 0

    def add(self, seconds: float, count: int, now: float) -> None:
        """Take in `count` requests that have been in the application for `seconds` together."""
        if self._began is None:
            self._began = now
        self._seconds += seconds
        self._count += count
        if now - self._began >= PERIOD_SECONDS:
            if self._count >= FEWEST:
                self._means.append((now, self._seconds / self._count))
            self._began, self._seconds, self._count = now, 0.0, 0
        while self._means and self._means[0][0] < now - REMEMBERED_SECONDS:
            self._means.popleft()
        self._seconds_now += seconds
        self._count_now += count
        if self._count_now >= FEWEST_NOW:
            self._pace, self._judged_at = self._judged(self._seconds_now / self._count_now), now
            self._seconds_now, self._count_now = 0.0, 0

    def pace(self, now: float) -> float:
        """How fast requests are answered now, as a part of what is usual: 1 if nothing is known."""
        return self._pace if now - self._judged_at <= JUDGED_SECONDS else 1.0

    def _judged(self, mean: float) -> float:
        usual = min((each for _, each in self._means), default=mean)
        if mean <= usual * TOLERATED:
            return 1.0
        return max(LEAST_PACE, usual / mean)
