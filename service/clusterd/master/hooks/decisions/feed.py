"""What hooks are still to be told, in the order in which it happened: a bounded queue that gives out one at a time.

What was given out is never given out again: whoever dies of it is not followed by another who does. Everything else is
given out once, to whoever is there then.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from clusterd.wire.hooks import EXIT, FORK, MESSAGE, Happening

MOST_EVENTS = 1000
MOST_MESSAGE_BYTES = 64 << 20
"""Of all messages that wait, as JSON. Each worker has a limit of its own, beyond which its `send` raises."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to tell; `happening` is None for the beginning of a hooks process."""

    happening: Happening | None
    incoming: Any = None
    """With a message: what it is answered by."""
    size: int = 0

    @property
    def is_message(self) -> bool:
        """Whether a worker's application has said it."""
        return self.happening is not None and self.happening.event == MESSAGE


@dataclass(slots=True)
class _Silence:
    """What happened while the queue was full: how the workers are since, without a call of any handler."""

    last: dict[int, Happening] = field(default_factory=dict)
    """By serial."""
    born: set[int] = field(default_factory=set)
    """Those of them that nobody has heard of."""

    def add(self, happening: Happening) -> None:
        if happening.event == FORK:
            self.born.add(happening.serial)
        if happening.event == EXIT and happening.serial in self.born:
            self.last.pop(happening.serial, None)
        else:
            self.last[happening.serial] = replace(happening, is_silent=True)


class Feed:
    """Owns the queue. `take` gives the next thing out; `settle` says that it is over, however it ended."""

    def __init__(self, most_events: int = MOST_EVENTS, most_message_bytes: int = MOST_MESSAGE_BYTES) -> None:
        self._most_events = most_events
        self._most_message_bytes = most_message_bytes
        self._queue: deque[Entry | _Silence] = deque()
        self._first: deque[Entry] = deque()
        """What whoever is told has to know before anything else."""
        self._known: dict[int, Happening] = {}
        """The workers as they are told of so far, by serial."""
        self._events = 0
        self._bytes = 0
        self.out: Entry | None = None
        """What was given out, and is not settled."""

    # ---- what happens

    def add_event(self, happening: Happening) -> bool:
        """False when the queue is full: no handler is called for it; how the worker is will be known all the same."""
        if self._events >= self._most_events:
            if not self._queue or not isinstance(self._queue[-1], _Silence):
                self._queue.append(_Silence())
            silence = self._queue[-1]
            assert isinstance(silence, _Silence)
            silence.add(happening)
            return False
        self._events += 1
        self._queue.append(Entry(happening))
        return True

    def add_message(self, happening: Happening, incoming: Any, size: int) -> bool:
        """False when the queue is full: it is not in it then."""
        if self._bytes + size > self._most_message_bytes:
            return False
        self._bytes += size
        self._queue.append(Entry(happening, incoming, size))
        return True

    def pass_over(self, happening: Happening) -> None:
        """There are no hooks, and nothing waits for any: just know it."""
        self._know(happening)

    # ---- who is told

    def begin(self) -> None:
        """A process is told from now on: first silently who lives, so that `setup` finds them, then that it begins."""
        for entry in self._first:
            # What was to be known after a time of silence, and was not given out.
            if entry.happening is not None:
                self._know(entry.happening)
        silent = (Entry(replace(last, is_silent=True)) for last in self._known.values())
        self._first = deque([*silent, Entry(None)])

    def take(self) -> Entry | None:
        """The next thing, given out; None when there is none, or when something is out."""
        if self.out is not None:
            return None
        while not self._first and self._queue and isinstance(silence := self._queue[0], _Silence):
            self._queue.popleft()
            self._first.extend(map(Entry, silence.last.values()))
        if self._first:
            self.out = self._first.popleft()
        elif self._queue:
            entry = self._queue.popleft()
            assert isinstance(entry, Entry)
            self._events -= not entry.is_message
            self._bytes -= entry.size
            self.out = entry
        if self.out is not None and self.out.happening is not None:
            self._know(self.out.happening)
        return self.out

    def settle(self) -> Entry | None:
        """What was out is over, and the next may follow."""
        settled, self.out = self.out, None
        return settled

    def clear(self) -> list[Entry]:
        """Nobody will be told of what waits; that."""
        untold = []
        while (entry := self.take()) is not None:
            self.settle()
            if entry.happening is not None and not entry.happening.is_silent:
                untold.append(entry)
        return untold

    @property
    def waiting(self) -> int:
        """How much is to be told, with what is out."""
        return sum(isinstance(entry, Entry) for entry in self._queue) + (self.out is not None)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to tell, and nothing is out."""
        return self.out is None and not self._first and not self._queue

    def _know(self, happening: Happening) -> None:
        if happening.state.is_dead:
            self._known.pop(happening.serial, None)
        elif happening.event != MESSAGE:
            self._known[happening.serial] = happening
