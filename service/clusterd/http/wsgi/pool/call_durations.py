"""Measures whether the application's calls are so short that passing them to another thread costs too much.

While calls are short, the pool passes the event loop to one of its threads, the leader (leadership.py).
"""

SHORT_SECONDS = 0.0001
"""Up to this average the loop can wait for a call. Passing a call to a thread and back costs a fifth of this time."""

LONG_SECONDS = 0.0002
"""Above this average it cannot. Longer than SHORT_SECONDS, so that the loop does not pass back and forth repeatedly."""

LONGEST_COUNTED = 0.002
"""Longer calls count as this long, so that a call whose thread lost the processor does not raise the average much."""

WEIGHT = 1 / 32
"""Weight of the last call in the average. The weight of several calls together is at most a half."""

FIRST_CALLS = 64
"""Number of calls to measure before a leader gets the loop, and again each time after it has returned the loop."""

MOST_CALLS = 1 << 16
"""Upper bound of that number, which grows with each mistake."""

AGAIN_CALLS = 4
"""Number of calls to measure before the next leader, after one that has returned the loop for want of calls."""

WORTH_CALLS = 1000
"""This many calls save more than the loop loses by waiting once for a long call."""


class CallDurations:
    """Tracks the average duration of calls, and how many calls must be measured until it is reliable."""

    def __init__(self) -> None:
        self._average = LONG_SECONDS
        self._seen = 0
        self._needed = FIRST_CALLS

    def took(self, seconds: float, calls: int) -> None:
        """Record that `calls` calls, at least one, have taken `seconds` together."""
        self._seen += calls
        each = min(seconds / calls, LONGEST_COUNTED)
        self._average += (each - self._average) * min(calls * WEIGHT, 0.5)

    @property
    def is_short(self) -> bool:
        """Whether calls are short, by enough measurements."""
        return self._average < SHORT_SECONDS and self._seen >= self._needed

    @property
    def is_long(self) -> bool:
        """Whether calls are long."""
        return self._average > LONG_SECONDS

    def begin_again(self, calls: int, *, waited: bool) -> None:
        """Measure again after a leader has made `calls` calls. `waited`: the loop was taken back from a long call.

        If some calls are long, each such mistake requires more measurements before the next try, so that mistakes
        become rare.
        """
        self._seen = 0 if waited or self.is_long else self._needed - AGAIN_CALLS
        if calls >= WORTH_CALLS:
            self._needed = FIRST_CALLS
        elif waited:
            self._needed = min(self._needed * 4, MOST_CALLS)
