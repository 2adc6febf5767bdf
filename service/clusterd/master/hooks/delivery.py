"""Deliver events and messages to the hooks process, one at a time. The master never waits for it."""

import time
from collections.abc import Callable

from clusterd.log import Logger
from clusterd.master.hooks.decisions.feed import Entry, Feed, Snapshot
from clusterd.master.hooks.link import HooksLink, size_of
from clusterd.records import dataclass
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import SETUP, WorkerEvent
from clusterd.wire.messages import Ack, AppMessage

HOW_TO_END = "it is not ended for that: `clusterctl kill hooks --signal KILL` does, and another follows"


@dataclass(slots=True)
class Counts:
    """Numbers since the start of the service."""

    events_dropped: int = 0
    messages_dropped: int = 0
    cut: int = 0
    """Events whose handling was cut short by the end of the hooks process."""


class HooksQueue:
    """Owns the links to the hooks processes, and delivers the entries of `feed`.

    `on_empty` is called when nothing waits any more. `on_through` is called when a process that was let go may end.
    `show_stacks` logs what a process is busy with.
    """

    def __init__(
        self,
        feed: Feed,
        log: Logger,
        on_empty: Callable[[], None],
        on_through: Callable[[int], None],
        show_stacks: Callable[[int, str], None],
    ) -> None:
        self._feed = feed
        self._log = log
        self._on_empty = on_empty
        self._on_through = on_through
        self._show_stacks = show_stacks
        self._links: dict[int, HooksLink] = {}
        self._told: int | None = None
        """The process that receives the entries."""
        self._is_let_go = False
        """Whether that process receives nothing more."""
        self._told_at = 0.0
        self._is_slow_known = False
        """Whether the log already says that the current entry takes long."""
        self._is_full = False
        self.counts = Counts()

    # ---- input

    def pass_over(self, worker_event: WorkerEvent) -> None:
        """Record the state of a worker. Used while there are no hooks: the event is not delivered."""
        self._feed.pass_over(worker_event)

    def add_event(self, worker_event: WorkerEvent) -> None:
        """Queue a worker event. If the queue is full, no handler is called for it."""
        if self._feed.add_event(worker_event):
            self._is_full = False
            self._tell_next()
            return
        self.counts.events_dropped += 1
        if not self._is_full:
            busy = f"they have been busy with {self.busy_with} for {self.busy_seconds:.1f} s"
            self._log.error(f"too many events wait for the hooks ({busy}): no handler is called for those that follow")
            if self._told is not None:
                self._show_stacks(self._told, "too many events wait")
        self._is_full = True

    def add_message(self, worker_event: WorkerEvent, incoming: Incoming) -> None:
        """Queue a message of the application in a worker. If the queue is full, the message is refused."""
        if self._feed.add_message(worker_event, incoming, size_of(incoming.value)):
            self._tell_next()
            return
        self.counts.messages_dropped += 1
        self._log.error("too many messages wait for the hooks: one was dropped", **worker_event.fields())
        refuse(incoming, "too many messages wait for the hooks already")

    # ---- the processes

    def connect(self, serial: int, link: HooksLink) -> None:
        """Register the link to a process that may receive entries later."""
        self._links[serial] = link

    def begin(self, serial: int) -> None:
        """Deliver to this process from now on."""
        self._told, self._is_let_go = serial, False
        self._feed.begin()
        self._tell_next()

    def let_go(self, serial: int) -> None:
        """Deliver nothing more to the process. `on_through` follows when it has handled the current entry."""
        self._is_let_go = True
        if self._feed.out is None:
            self._on_through(serial)

    def said(self, serial: int, message: AppMessage | Ack) -> None:
        """Handle a message of a hooks process."""
        if link := self._links.get(serial):
            link.received(message)

    def settled(self, serial: int) -> None:
        """Go on to the next entry: a process has handled the current one."""
        if serial != self._told:
            return
        entry = self._feed.settle()
        if isinstance(entry, Entry):
            _taken(entry)
        if self._is_let_go:
            self._on_through(serial)
        else:
            self._tell_next()
            self.say_if_empty()

    def gone(self, serial: int, how: str) -> None:
        """Handle the end of a hooks process."""
        if link := self._links.pop(serial, None):
            link.end(f"the hooks process died before it had answered ({how})")
        if self._told == serial:
            self._told = None
            self._cut()

    def say_if_empty(self) -> None:
        """Call `on_empty` if nothing waits and nothing is being handled."""
        if self._feed.is_idle:
            self._on_empty()

    def give_up_rest(self) -> None:
        """Drop every entry that waits, because there are no hooks any more. Requests are refused."""
        untold = self._feed.clear()
        if untold:
            self._log.warning("there are no hooks any more; some events were not delivered", untold=len(untold))
        for entry in untold:
            if entry.incoming is not None:
                refuse(entry.incoming, "there are no hooks any more")

    # ---- status

    @property
    def waiting(self) -> int:
        """The number of entries that are not handled yet, including the current one."""
        return self._feed.waiting

    @property
    def busy_seconds(self) -> float:
        """How long the current entry has been handled; 0 if there is none."""
        return 0.0 if self._feed.out is None else time.monotonic() - self._told_at

    @property
    def busy_with(self) -> str | None:
        """The entry that is being handled, in words; None if there is none."""
        entry = self._feed.out
        if entry is None:
            return None
        if isinstance(entry, Snapshot):
            return repr(SETUP) if entry.is_beginning else "the state of the workers"
        return f"{entry.worker_event.name!r} of worker {entry.worker_event.slot}"

    def look(self, most_seconds: float) -> None:
        """Log the stacks of the hooks process once, if it has handled one entry for `most_seconds`."""
        if self._told is None or self._is_slow_known or self.busy_seconds < most_seconds:
            return
        self._is_slow_known = True
        self._show_stacks(self._told, f"busy with {self.busy_with} for {self.busy_seconds:.1f} s; {HOW_TO_END}")

    # ---- internals

    def _tell_next(self) -> None:
        if self._told is None or self._is_let_go:
            return
        entry = self._feed.take()
        if entry is not None:
            self._told_at, self._is_slow_known = time.monotonic(), False
            self._links[self._told].tell(entry)

    def _cut(self) -> None:
        """Drop the current entry: an event that crashes the hooks process must not crash its successor."""
        entry = self._feed.settle()
        if not isinstance(entry, Entry):
            return  # The next process begins with a snapshot of its own.
        self.counts.cut += 1
        worker_event = entry.worker_event
        text = f"the hooks process ended while it handled {worker_event.name!r}; this event is not delivered again"
        self._log.error(text, slot=worker_event.slot, generation=worker_event.generation)
        _taken(entry)


def refuse(incoming: Incoming, why: str) -> None:
    """Refuse a request, with the reason `why`, and mark the message as taken."""
    if incoming.wants_reply:
        incoming.refuse(why)
    incoming.taken()


def _taken(entry: Entry) -> None:
    if entry.incoming is not None:
        entry.incoming.taken()
