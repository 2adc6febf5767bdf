"""Whether the master itself runs on time. If it did not run, it cannot tell for how long its workers did not."""

LOOK_EVERY_SECONDS = 0.25
LATE_SECONDS = 0.5
"""If a check is this late, the master itself did not run, and the time before it is not held against the workers."""


class Punctuality:
    """Remembers the time of the last check. `began` is when this master began: before that it did not run either."""

    def __init__(self, began: float = 0.0) -> None:
        self._last_look: float | None = None
        self._excused_until = began

    def look(self, now: float) -> float:
        """Note a check at `now` (time.monotonic()).

        Returns the time up to which standing still is not held against a worker.
        """
        if self._last_look is not None and now - self._last_look > LOOK_EVERY_SECONDS + LATE_SECONDS:
            self._excused_until = now
        self._last_look = now
        return self._excused_until
