"""One decision after the other, where carrying one out makes more happen."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Event = TypeVar("_Event")


class EventQueue(Generic[_Event]):
    """Has `decide` called with each event, and never within a call of it."""

    def __init__(self, decide: Callable[[_Event], None]) -> None:
        self._decide = decide
        self._waiting: deque[_Event] = deque()
        self._is_deciding = False

    def take(self, event: _Event) -> bool:
        """Decide about `event`, after those that came before it. False within a decision, which sees to it."""
        self._waiting.append(event)
        if self._is_deciding:
            return False
        self._is_deciding = True
        try:
            while self._waiting:
                self._decide(self._waiting.popleft())
        finally:
            self._is_deciding = False
        return True
