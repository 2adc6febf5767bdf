"""The exponential backoff of a slot: how long it waits before it is forked again."""

from clusterd.records import dataclass

STABLE_SECONDS = 10.0
"""If a worker has served this long, its failure is counted as the first one again."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


def doubled(first: float, times: int) -> float:
    """`first` seconds, doubled `times` times, at most LONGEST_DELAY."""
    # The exponent is bounded, because a service may fail for weeks.
    return min(first * 2.0 ** min(times, 16), LONGEST_DELAY)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a slot has failed in a row, and when it may be forked again."""

    failures: int = 0
    not_before: float = 0.0
    reason: str = ""
    """The reason for the last failure."""

    def after_failure(self, now: float, served: float, reason: str = "") -> "Backoff":
        """The backoff after one more failure.

        The slot is forked again at once after the first failure, then after 0.5, 1, 2 ... 30 seconds. `served` is how
        long the worker had been ready, in seconds.
        """
        failures = 1 if served >= STABLE_SECONDS else self.failures + 1
        if failures == 1:
            return Backoff(failures, now, reason)
        return Backoff(failures, now + doubled(FIRST_DELAY, failures - 2), reason)
