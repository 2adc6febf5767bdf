"""The events and messages that wait for the hooks, in order: a bounded queue that gives out one entry at a time.

Each entry is given out at most once, to the hooks process that runs then. If that process dies while it handles the
entry, the entry is not given out again: an event that crashes the process must not crash its successor.

When the queue is full, events are dropped. A snapshot of the workers then stands in the queue for them, so that the
hooks still know which workers there are. A new hooks process begins with a snapshot, too.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from clusterd.records import dataclass
from clusterd.wire.hooks import MESSAGE, WorkerEvent

MOST_EVENTS = 1000
MESSAGE_BYTES = 1024
"""What a waiting message takes beside its value, about. A worker could send any number of the smallest."""
MOST_MESSAGE_BYTES = 64 << 20
"""The limit of all messages that wait, as JSON. Each worker has its own limit, beyond which its `send` raises."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, or a message of the application in a worker."""

    worker_event: WorkerEvent
    incoming: Any = None
    """The received message, through which it is answered; None for an event."""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the workers at a place in the queue. No handler is called for it, but for that of `setup`."""

    workers: tuple[WorkerEvent, ...]
    """The last event of each worker. Those that the hooks know and that have ended since are among them."""
    is_beginning: bool = False
    """Whether `setup` follows, because a hooks process begins."""


class Feed:
    """Owns the queue. `take` gives out the next entry. `settle` ends it, however the handling ended."""

    def __init__(self, most_events: int = MOST_EVENTS, most_message_bytes: int = MOST_MESSAGE_BYTES) -> None:
        self._most_events = most_events
        self._most_message_bytes = most_message_bytes
        self._queue: deque[Entry | Mapping[int, WorkerEvent]] = deque()
        """Where events were dropped, it has the workers of that time instead, by serial."""
        self._latest: Mapping[int, WorkerEvent] = {}
        """The last event of each living worker, by serial."""
        self._known: Mapping[int, WorkerEvent] = {}
        """The same as of what was given out."""
        self._has_dropped = False
        """Whether events were dropped after the last one in the queue."""
        self._has_begun = True
        self._events = 0
        self._bytes = 0
        self.out: Entry | Snapshot | None = None
        """The entry that was given out and is not settled."""

    # ---- input

    def add_event(self, worker_event: WorkerEvent) -> bool:
        """Queue an event. Returns False if the queue is full, and drops it: a snapshot follows in its place."""
        is_full = self._events >= self._most_events
        if is_full:
            self._has_dropped = True
        else:
            self._events += 1
            self._append(Entry(worker_event))
        self._latest = _after(worker_event, self._latest)
        return not is_full

    def add_message(self, worker_event: WorkerEvent, incoming: Any, size: int) -> bool:
        """Queue a message. Returns False, and does not queue it, if the queue is full."""
        size += MESSAGE_BYTES
        if self._bytes + size > self._most_message_bytes:
            return False
        self._bytes += size
        self._append(Entry(worker_event, incoming, size))
        return True

    def pass_over(self, worker_event: WorkerEvent) -> None:
        """Record the state of a worker. Used while there are no hooks and nothing waits for them."""
        self._known = self._latest = _after(worker_event, self._latest)

    def _append(self, entry: Entry) -> None:
        self._snapshot_if_dropped()
        self._queue.append(entry)

    def _snapshot_if_dropped(self) -> None:
        if self._has_dropped:
            self._has_dropped = False
            self._queue.append(self._latest)

    # ---- output

    def begin(self) -> None:
        """Give a new process a snapshot of what was given out before, and `setup`, ahead of the queue."""
        self._has_begun = False

    def take(self) -> Entry | Snapshot | None:
        """Give out the next entry. Returns None if there is none, or if another entry is not settled yet."""
        if self.out is not None:
            return None
        if not self._has_begun:
            self._has_begun = True
            self.out = Snapshot(tuple(self._known.values()), is_beginning=True)
            return self.out
        self._snapshot_if_dropped()
        if self._queue:
            self.out = self._give_out(self._queue.popleft())
        return self.out

    def _give_out(self, entry: Entry | Mapping[int, WorkerEvent]) -> Entry | Snapshot:
        if isinstance(entry, Entry):
            self._events -= entry.worker_event.name != MESSAGE
            self._bytes -= entry.size
            self._known = _after(entry.worker_event, self._known)
            return entry
        ended = [_ended(known) for serial, known in self._known.items() if serial not in entry]
        self._known = entry
        return Snapshot((*entry.values(), *ended))

    def settle(self) -> Entry | Snapshot | None:
        """End the entry that was given out, and return it. The next one may follow."""
        settled, self.out = self.out, None
        return settled

    def clear(self) -> list[Entry]:
        """Empty the queue. Returns the entries that are not delivered."""
        untold = [entry for entry in self._queue if isinstance(entry, Entry)]
        self._queue.clear()
        self._events = self._bytes = 0
        self._has_dropped, self._has_begun = False, True
        self._known = self._latest
        return untold

    @property
    def waiting(self) -> int:
        """The number of entries that wait, including the one that was given out."""
        return sum(isinstance(entry, Entry) for entry in self._queue) + (self.out is not None)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no entry is given out."""
        return self.out is None and not self._queue and self._has_begun and not self._has_dropped


def _after(worker_event: WorkerEvent, living: Mapping[int, WorkerEvent]) -> Mapping[int, WorkerEvent]:
    """The living workers after an event, or a message, which changes nothing."""
    if worker_event.name == MESSAGE:
        return living
    if worker_event.state.is_dead:
        return {serial: last for serial, last in living.items() if serial != worker_event.serial}
    return {**living, worker_event.serial: worker_event}


def _ended(known: WorkerEvent) -> WorkerEvent:
    return replace(known, state=replace(known.state, is_connected=False, is_listening=False, is_dead=True))
