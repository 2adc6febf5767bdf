"""The turns of connections that have more to do than others should wait for."""

from collections import deque
from collections.abc import Callable
from time import monotonic

ROUND_SECONDS = 0.0001
"""How long the turns of one round of the loop take together, however many connections wait for theirs: then what other
clients have sent is read."""


class Turns:
    """Has a few turns taken in each round of the loop, one after the other. `call_soon` is the loop's."""

    __slots__ = ("_call_soon", "_is_scheduled", "_waiting")

    def __init__(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        self._call_soon = call_soon
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_scheduled = False

    def add(self, turn: Callable[[], object]) -> None:
        """Have `turn` called in a later round, after those that were added before."""
        self._waiting.append(turn)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        end = monotonic() + ROUND_SECONDS
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft()()
                if monotonic() >= end:
                    break
        finally:
            self._is_scheduled = bool(self._waiting)
            if self._is_scheduled:
                self._call_soon(self._run)
