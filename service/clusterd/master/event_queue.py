"""A queue that processes events one at a time, although processing one can cause further events."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Event = TypeVar("_Event")


class EventQueue(Generic[_Event]):
    """Calls `decide` with each event in turn. `decide` is never called recursively."""

    def __init__(self, decide: Callable[[_Event], None]) -> None:
        self._decide = decide
        self._waiting: deque[_Event] = deque()
        self._is_deciding = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have events wait until `take` is called after this: what is done now comes before them."""
        self._is_deciding = True
        try:
            yield
        finally:
            self._is_deciding = False

    def take(self, event: _Event) -> bool:
        """Process `event` after the events before it.

        Returns False when called from within `decide`: the outer call processes the event.
        """
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
