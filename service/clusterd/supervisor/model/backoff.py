"""How long a slot waits before it is forked again."""

from dataclasses import dataclass

STABLE_SECONDS = 10.0
"""A worker that served this long was no failure of its boot or its code at large."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


def doubled(first: float, times: int) -> float:
    """`first` seconds, doubled so many times, but LONGEST_DELAY at most."""
    # Bounded before the power is taken: a service may fail for weeks.
    return min(first * 2.0 ** min(times, 16), LONGEST_DELAY)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a slot has failed in a row, and when it may be tried again."""

    failures: int = 0
    not_before: float = 0.0
    reason: str = ""
    """Why it failed last."""

    def after_failure(self, now: float, served: float, reason: str = "") -> "Backoff":
        """The first failure is answered at once, each further one later: 0.5, 1, 2 ... 30 seconds.

        `served` is how long the worker had been ready, in seconds.
        """
        failures = 1 if served >= STABLE_SECONDS else self.failures + 1
        if failures == 1:
            return Backoff(failures, now, reason)
        return Backoff(failures, now + doubled(FIRST_DELAY, failures - 2), reason)
