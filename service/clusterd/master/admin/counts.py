"""Count restarts and rollouts, and note the outcome of the last reload, for the metrics."""

import time
from collections import Counter
from collections.abc import Callable

from clusterd.supervisor.model.states import RESTARTS, EndReason

SUCCEEDED = "succeeded"
FAILED = "failed"


class Counts:
    """Counts for the metrics. `clock` returns the time in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.restarts: Counter[tuple[int, str]] = Counter()
        """The number of restarts, by slot and reason."""
        self.rollouts: Counter[str] = Counter({SUCCEEDED: 0, FAILED: 0})
        self.last_reload_succeeded = True
        self.last_success_at = clock()
        """Initially the time of the start, which loads the code and the configuration from disk like a reload."""

    def restarts_of(self, slot: int) -> int:
        """The number of restarts of a slot, for whatever reason."""
        return sum(count for (each, _), count in self.restarts.items() if each == slot)

    def worker_ended(self, slot: int, reason: EndReason) -> None:
        """Count the end of a worker whose slot is filled again."""
        if reason in RESTARTS:
            self.restarts[slot, reason.value] += 1

    def rollout_ended(self, *, succeeded: bool) -> None:
        """Count a rollout, and note its outcome."""
        self.rollouts[SUCCEEDED if succeeded else FAILED] += 1
        self.last_reload_succeeded = succeeded
        if succeeded:
            self.last_success_at = self._clock()
