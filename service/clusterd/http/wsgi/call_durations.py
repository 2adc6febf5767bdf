"""Whether the application's calls are so short that the way to another thread costs more than they do."""

SHORT_SECONDS = 0.0001
"""On average, and the loop can wait for a call. The way to a thread and back costs a fifth of it."""

LONG_SECONDS = 0.0002
"""On average, and it cannot. More than SHORT_SECONDS, so that it is not lent and taken back in turn."""

LONGEST_COUNTED = 0.002
"""A thread that lost the processor in a call does not make all calls long."""

WEIGHT = 1 / 32
"""Of the last call in the average; that of several is at most a half."""

FIRST_CALLS = 64
"""To be seen before the loop is lent, and again after each time."""

MOST_CALLS = 1 << 16
"""However often that was a mistake."""

WORTH_CALLS = 1000
"""What is saved with so many calls is more than what is lost by one that the loop waited for in vain."""


class CallDurations:
    """How long calls take on average, and how many must be seen until that says something."""

    def __init__(self) -> None:
        self._average = LONG_SECONDS
        self._seen = 0
        self._needed = FIRST_CALLS

    def took(self, seconds: float, calls: int) -> None:
        """So many calls, at least one, have taken so long."""
        self._seen += calls
        each = min(seconds / calls, LONGEST_COUNTED)
        self._average += (each - self._average) * min(calls * WEIGHT, 0.5)

    @property
    def is_short(self) -> bool:
        """Whether calls are known to be short."""
        return self._average < SHORT_SECONDS and self._seen >= self._needed

    @property
    def is_long(self) -> bool:
        """Whether calls are long."""
        return self._average > LONG_SECONDS

    def begin_again(self, calls: int, *, waited: bool) -> None:
        """The loop was lent for so many calls, and has `waited` for the last one in vain.

        Among calls of which some are long, each mistake is followed by a longer look: in the end there are none.
        """
        self._seen = 0
        if calls >= WORTH_CALLS:
            self._needed = FIRST_CALLS
        elif waited:
            self._needed = min(self._needed * 4, MOST_CALLS)
