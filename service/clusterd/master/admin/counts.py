"""What has happened so far, counted: restarts, rollouts, the last reload."""

import time
from collections import Counter
from collections.abc import Callable

from clusterd.supervisor.model.states import RESTARTS, EndReason

SUCCEEDED = "succeeded"
FAILED = "failed"


class Counts:
    """Counts for metrics; `clock` gives the time of the day in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.restarts: Counter[tuple[int, str]] = Counter()
        """By slot and reason."""
        self.rollouts: Counter[str] = Counter({SUCCEEDED: 0, FAILED: 0})
        self.last_reload_succeeded = True
        self.last_success_at = clock()
        """The start counts: what runs since then is what was on disk then."""

    def worker_ended(self, slot: int, reason: EndReason) -> None:
        """Count the end of a worker, where its slot is filled again."""
        if reason in RESTARTS:
            self.restarts[slot, reason.value] += 1

    def rollout_ended(self, *, succeeded: bool) -> None:
        """Count a rollout."""
        self.rollouts[SUCCEEDED if succeeded else FAILED] += 1
        self.last_reload_succeeded = succeeded
        if succeeded:
            self.last_success_at = self._clock()
