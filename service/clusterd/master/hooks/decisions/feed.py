"""What hooks are still to be told, in the order in which it happened: a bounded queue that gives out one at a time.

What was given out is never given out again: whoever dies of it is not followed by another who does. Everything else is
given out once, to whoever is there then.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from clusterd.wire.hooks import EXIT, FORK, MESSAGE, WorkerEvent

MOST_EVENTS = 1000
MOST_MESSAGE_BYTES = 64 << 20
"""Of all messages that wait, as JSON. Each worker has a limit of its own, beyond which its `send` raises."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to tell; `worker_event` is None for the beginning of a hooks process."""

    worker_event: WorkerEvent | None
    incoming: Any = None
    """With a message: what it is answered by."""
    size: int = 0

    @property
    def is_message(self) -> bool:
        """Whether a worker's application has said it."""
        return self.worker_event is not None and self.worker_event.name == MESSAGE


@dataclass(slots=True)
class _Silence:
    """What happened while the queue was full: how the workers are since, without a call of any handler."""

    last: dict[int, WorkerEvent] = field(default_factory=dict)
    """By serial."""
    born: set[int] = field(default_factory=set)
    """Those of them that nobody has heard of."""

    def add(self, worker_event: WorkerEvent) -> None:
        if worker_event.name == FORK:
            self.born.add(worker_event.serial)
        if worker_event.name == EXIT and worker_event.serial in self.born:
            self.last.pop(worker_event.serial, None)
        else:
            self.last[worker_event.serial] = replace(worker_event, is_silent=True)


class Feed:
    """Owns the queue. `take` gives the next thing out; `settle` says that it is over, however it ended."""

    def __init__(self, most_events: int = MOST_EVENTS, most_message_bytes: int = MOST_MESSAGE_BYTES) -> None:
        self._most_events = most_events
        self._most_message_bytes = most_message_bytes
        self._queue: deque[Entry | _Silence] = deque()
        self._first: deque[Entry] = deque()
        """What whoever is told has to know before anything else."""
        self._known: dict[int, WorkerEvent] = {}
        """The workers as they are told of so far, by serial."""
        self._events = 0
        self._bytes = 0
        self.out: Entry | None = None
        """What was given out, and is not settled."""

    # ---- what happens

    def add_event(self, worker_event: WorkerEvent) -> bool:
        """False when the queue is full: no handler is called for it; how the worker is will be known all the same."""
        if self._events >= self._most_events:
            if not self._queue or not isinstance(self._queue[-1], _Silence):
                self._queue.append(_Silence())
            silence = self._queue[-1]
            assert isinstance(silence, _Silence)
            silence.add(worker_event)
            return False
        self._events += 1
        self._queue.append(Entry(worker_event))
        return True

    def add_message(self, worker_event: WorkerEvent, incoming: Any, size: int) -> bool:
        """False when the queue is full: it is not in it then."""
        if self._bytes + size > self._most_message_bytes:
            return False
        self._bytes += size
        self._queue.append(Entry(worker_event, incoming, size))
        return True

    def pass_over(self, worker_event: WorkerEvent) -> None:
        """There are no hooks, and nothing waits for any: just know it."""
        self._know(worker_event)

    # ---- who is told

    def begin(self) -> None:
        """A process is told from now on: first silently who lives, so that `setup` finds them, then that it begins."""
        for entry in self._first:
            # What was to be known after a time of silence, and was not given out.
            if entry.worker_event is not None:
                self._know(entry.worker_event)
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
        if self.out is not None and self.out.worker_event is not None:
            self._know(self.out.worker_event)
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
            if entry.worker_event is not None and not entry.worker_event.is_silent:
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

    def _know(self, worker_event: WorkerEvent) -> None:
        if worker_event.state.is_dead:
            self._known.pop(worker_event.serial, None)
        elif worker_event.name != MESSAGE:
            self._known[worker_event.serial] = worker_event
