"""The events and messages that wait for the hooks, in order: a bounded queue that gives out one entry at a time.

Each entry is given out at most once, to the hooks process that runs then. If that process dies while it handles the
entry, the entry is not given out again: an event that crashes the process must not crash its successor.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from clusterd.wire.hooks import EXIT, FORK, MESSAGE, WorkerEvent

MOST_EVENTS = 1000
MOST_MESSAGE_BYTES = 64 << 20
"""The limit of all messages that wait, as JSON. Each worker has its own limit, beyond which its `send` raises."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to deliver. `worker_event` is None for the event `setup` at the beginning of a hooks process."""

    worker_event: WorkerEvent | None
    incoming: Any = None
    """The received message, through which it is answered; None for an event."""
    size: int = 0

    @property
    def is_message(self) -> bool:
        """Whether this is a message of the application in a worker."""
        return self.worker_event is not None and self.worker_event.name == MESSAGE


@dataclass(slots=True)
class _Silence:
    """Stands in the queue for the events that came while it was full. It updates the workers and calls no handler."""

    last: dict[int, WorkerEvent] = field(default_factory=dict)
    """The last event of each worker, by serial."""
    born: set[int] = field(default_factory=set)
    """The serials of workers that were forked during this time, which the hooks do not know."""

    def add(self, worker_event: WorkerEvent) -> None:
        if worker_event.name == FORK:
            self.born.add(worker_event.serial)
        if worker_event.name == EXIT and worker_event.serial in self.born:
            self.last.pop(worker_event.serial, None)
        else:
            self.last[worker_event.serial] = replace(worker_event, is_silent=True)


class Feed:
    """Owns the queue. `take` gives out the next entry. `settle` ends it, however the handling ended."""

    def __init__(self, most_events: int = MOST_EVENTS, most_message_bytes: int = MOST_MESSAGE_BYTES) -> None:
        self._most_events = most_events
        self._most_message_bytes = most_message_bytes
        self._queue: deque[Entry | _Silence] = deque()
        self._first: deque[Entry] = deque()
        """Entries that the hooks process must receive before the queue."""
        self._known: dict[int, WorkerEvent] = {}
        """The last event of each living worker that was given out, by serial."""
        self._events = 0
        self._bytes = 0
        self.out: Entry | None = None
        """The entry that was given out and is not settled."""

    # ---- input

    def add_event(self, worker_event: WorkerEvent) -> bool:
        """Queue an event. Returns False if the queue is full.

        In that case no handler is called for the event, but the hooks still learn the state of the worker.
        """
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
        """Queue a message. Returns False, and does not queue it, if the queue is full."""
        if self._bytes + size > self._most_message_bytes:
            return False
        self._bytes += size
        self._queue.append(Entry(worker_event, incoming, size))
        return True

    def pass_over(self, worker_event: WorkerEvent) -> None:
        """Record the state of a worker. Used while there are no hooks and nothing waits for them."""
        self._know(worker_event)

    # ---- output

    def begin(self) -> None:
        """Prepare the entries for a new process.

        It first receives a silent event for each living worker, so that the `setup` handler finds them, then `setup`.
        """
        for entry in self._first:
            # Events of a _Silence that the previous process has not received.
            if entry.worker_event is not None:
                self._know(entry.worker_event)
        silent = (Entry(replace(last, is_silent=True)) for last in self._known.values())
        self._first = deque([*silent, Entry(None)])

    def take(self) -> Entry | None:
        """Give out the next entry. Returns None if there is none, or if another entry is not settled yet."""
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
        """End the entry that was given out, and return it. The next one may follow."""
        settled, self.out = self.out, None
        return settled

    def clear(self) -> list[Entry]:
        """Empty the queue. Returns the entries that are not delivered, without the silent ones."""
        untold = []
        while (entry := self.take()) is not None:
            self.settle()
            if entry.worker_event is not None and not entry.worker_event.is_silent:
                untold.append(entry)
        return untold

    @property
    def waiting(self) -> int:
        """The number of entries that wait, including the one that was given out."""
        return sum(isinstance(entry, Entry) for entry in self._queue) + (self.out is not None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no entry is given out."""
        return self.out is None and not self._first and not self._queue

    def _know(self, worker_event: WorkerEvent) -> None:
        if worker_event.state.is_dead:
            self._known.pop(worker_event.serial, None)
        elif worker_event.name != MESSAGE:
            self._known[worker_event.serial] = worker_event
