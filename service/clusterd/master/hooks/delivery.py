"""What happens, on its way to the hooks: queued, told one at a time, and never waited for."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.log import Logger
from clusterd.master.hooks.decisions.feed import Entry, Feed
from clusterd.master.hooks.link import HooksLink, size_of
from clusterd.wire.conversation import Disconnected, Incoming
from clusterd.wire.hooks import SETUP, WorkerEvent
from clusterd.wire.messages import Ack, AppMessage

HOW_TO_END = "it is not ended for that: `clusterctl kill hooks --signal KILL` does, and another follows"


@dataclass(slots=True)
class Counts:
    """Since the start."""

    events_dropped: int = 0
    messages_dropped: int = 0
    cut: int = 0
    """What a process was told and did not live to get through with."""


class HooksQueue:
    """Owns the links with the processes, and tells them what is in `feed`.

    `on_empty` is called when nothing waits any more, `on_through` when a process that was let go may end, and
    `show_stacks` when it is to be in the log what a process is busy with.
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
        """The process that is told."""
        self._is_let_go = False
        """It is told nothing more."""
        self._told_at = 0.0
        self._is_slow_known = False
        """Whether it was logged that what is dealt with takes long."""
        self._is_full = False
        self.counts = Counts()

    # ---- what happens

    def pass_over(self, worker_event: WorkerEvent) -> None:
        """There are no hooks: just know it."""
        self._feed.pass_over(worker_event)

    def add_event(self, worker_event: WorkerEvent) -> None:
        """Something has become of a worker."""
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
        """A worker's application has said something."""
        if self._feed.add_message(worker_event, incoming, size_of(incoming.value)):
            self._tell_next()
            return
        self.counts.messages_dropped += 1
        who = {"slot": worker_event.slot, "generation": worker_event.generation, "pid": worker_event.state.pid}
        self._log.error("too many messages wait for the hooks: one was dropped", **who)
        refuse(incoming, "too many messages wait for the hooks already")

    # ---- the processes

    def connect(self, serial: int, link: HooksLink) -> None:
        """There is a process that may be told some time."""
        self._links[serial] = link

    def begin(self, serial: int) -> None:
        """Tell this one from now on."""
        self._told, self._is_let_go = serial, False
        self._feed.begin()
        self._tell_next()

    def let_go(self, serial: int) -> None:
        """Tell it nothing more. It is through with what it was told last now, or later."""
        self._is_let_go = True
        if self._feed.out is None:
            self._on_through(serial)

    def said(self, serial: int, message: AppMessage | Ack) -> None:
        """A process has said something."""
        if link := self._links.get(serial):
            link.received(message)

    def settled(self, serial: int) -> None:
        """A process is through with what it was told."""
        if serial != self._told:
            return
        entry = self._feed.settle()
        if entry is not None:
            _taken(entry)
        if self._is_let_go:
            self._on_through(serial)
        else:
            self._tell_next()
            self.say_if_empty()

    def gone(self, serial: int, how: str) -> None:
        """A process is no more."""
        if link := self._links.pop(serial, None):
            link.end(f"the hooks process died before it had answered ({how})")
        if self._told == serial:
            self._told = None
            self._cut()

    def say_if_empty(self) -> None:
        """Have whoever waits for it told."""
        if self._feed.is_idle:
            self._on_empty()

    def give_up_rest(self) -> None:
        """There are no hooks any more."""
        untold = self._feed.clear()
        if untold:
            self._log.warning("there are no hooks any more, and they were not told everything", untold=len(untold))
        for entry in untold:
            if entry.incoming is not None:
                refuse(entry.incoming, "there are no hooks any more")

    # ---- seen from outside

    @property
    def waiting(self) -> int:
        """How much is still to be told, with what is dealt with now."""
        return self._feed.waiting

    @property
    def busy_seconds(self) -> float:
        """How long one thing has been dealt with; 0 where none is."""
        return 0.0 if self._feed.out is None else time.monotonic() - self._told_at

    @property
    def busy_with(self) -> str | None:
        """What is dealt with; None where nothing is."""
        entry = self._feed.out
        if entry is None:
            return None
        worker_event = entry.worker_event
        return repr(SETUP) if worker_event is None else f"{worker_event.name!r} of worker {worker_event.slot}"

    def look(self, most_seconds: float) -> None:
        """Have it in the log, once, where one thing takes so long."""
        if self._told is None or self._is_slow_known or self.busy_seconds < most_seconds:
            return
        self._is_slow_known = True
        self._show_stacks(self._told, f"busy with {self.busy_with} for {self.busy_seconds:.1f} s; {HOW_TO_END}")

    # ---- within

    def _tell_next(self) -> None:
        if self._told is None or self._is_let_go:
            return
        entry = self._feed.take()
        if entry is not None:
            self._told_at, self._is_slow_known = time.monotonic(), False
            self._links[self._told].tell(entry)

    def _cut(self) -> None:
        """What it was told last is told to nobody else: whoever dies of it is not followed by another who does."""
        entry = self._feed.settle()
        if entry is None or entry.worker_event is None or entry.worker_event.is_silent:
            return
        self.counts.cut += 1
        worker_event = entry.worker_event
        text = f"the hooks process ended while it dealt with {worker_event.name!r}, which no other is told of"
        self._log.error(text, slot=worker_event.slot, generation=worker_event.generation)
        _taken(entry)


def refuse(incoming: Incoming, why: str) -> None:
    """Nobody answers; it is dealt with."""
    if incoming.wants_reply:
        try:
            incoming.refuse(why)
        except Disconnected:
            pass  # nobody awaits it any more
    incoming.taken()


def _taken(entry: Entry) -> None:
    if entry.incoming is not None:
        entry.incoming.taken()
