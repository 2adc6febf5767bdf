"""Whether the master itself looks on time: one that did not run cannot tell for how long others did not."""

LOOK_EVERY_SECONDS = 0.25
LATE_SECONDS = 0.5
"""A look this late means that the master itself did not run: nobody else's time counts then."""


class Punctuality:
    """Remembers when the last look was."""

    def __init__(self) -> None:
        self._last_look: float | None = None
        self._excused_until = 0.0

    def look(self, now: float) -> float:
        """The master looks, at `now` (time.monotonic()): the time before which nobody is blamed for standing still."""
        if self._last_look is not None and now - self._last_look > LOOK_EVERY_SECONDS + LATE_SECONDS:
            self._excused_until = now
        self._last_look = now
        return self._excused_until
