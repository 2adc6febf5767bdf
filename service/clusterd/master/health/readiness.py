"""Whether any worker answers requests. /readyz reports it to a proxy that can use another host instead.

The answer turns to "not ready" only after some seconds. A burst fills the queues of all hosts at once; if each host
reported that immediately, the proxy would have no host left.
"""

from collections.abc import Iterable
from enum import Enum

from clusterd.master.health.punctuality import Punctuality
from clusterd.records import dataclass

SILENT_SECONDS = 2.0
"""A worker whose event loop has not turned for this long answers nothing, whatever the cause."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A ready worker as its scoreboard row shows it. Times are in seconds, as time.monotonic()."""

    serial: int
    slot: int
    heartbeat: float
    """When its event loop last turned."""
    progress: float
    """When one of its threads last made progress, or was idle."""
    waiting: int
    """The number of requests that wait for a thread."""
    is_full: bool
    """The worker would answer one more request with 503."""
    is_debugged: bool
    unready: float
    """The setting `timeouts.unready`, in seconds."""


class _Trouble(Enum):
    """Why a worker does not answer: in words for all workers, and for some of them."""

    SILENT = "no worker's event loop turns", "the event loop of {} does not turn", "event loops", "all turn"
    STUCK = (
        "every thread of every worker is stuck while requests wait",
        "every thread of {} is stuck",
        "threads",
        "all make progress, or nothing waits",
    )
    FULL = "the queue of every worker is full", "the queue of {} is full", "queues", "all have room"

    def __init__(self, of_all: str, of_some: str, checked: str, absent: str) -> None:
        self.of_all = of_all
        self.of_some = of_some
        self.checked = checked
        self.absent = absent


@dataclass(frozen=True, slots=True)
class Check:
    """One of the conditions for being ready, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class NotReady:
    """Why no worker answers requests, and since when (time.monotonic())."""

    why: str
    since: float


class Readiness:
    """Remembers since when requests wait and queues are full. It only computes; it has no side effects."""

    def __init__(self) -> None:
        self._punctuality = Punctuality()
        self._waiting_since: float | None = None
        self._full_since: dict[int, float] = {}
        self._not_ready: NotReady | None = None
        self._troubles: list[tuple[Seen, _Trouble]] = []

    def checks(self) -> tuple[Check, ...]:
        """What the last look has found. A check fails only if no worker answers: one that answers is enough."""
        return tuple(self._check(trouble) for trouble in _Trouble)

    def _check(self, trouble: _Trouble) -> Check:
        slots = [worker.slot for worker, its in self._troubles if its is trouble]
        if not slots:
            return Check(trouble.checked, True, trouble.absent)
        found = trouble.of_some.format(_workers(slots))
        if self._not_ready is None:
            return Check(trouble.checked, True, f"{found}; other workers answer")
        return Check(trouble.checked, False, found)

    def look(self, workers: Iterable[Seen], now: float) -> NotReady | None:
        """Check the ready workers at `now`. Returns None if one of them makes progress, or if there are none."""
        excused = self._punctuality.look(now)
        workers = tuple(workers)
        is_waiting = any(worker.waiting or worker.is_full for worker in workers)
        self._waiting_since = max(self._waiting_since or now, excused) if is_waiting else None
        self._full_since = {
            worker.serial: max(self._full_since.get(worker.serial, now), excused)
            for worker in workers
            if worker.is_full
        }
        found = [(worker, self._trouble(worker, excused, now)) for worker in workers]
        troubles = [(worker, *trouble) for worker, trouble in found if trouble is not None]
        self._troubles = [(worker, trouble) for worker, trouble, _ in troubles]
        if not workers or len(troubles) < len(workers):
            self._not_ready = None
        else:
            began = max(since for _, _, since in troubles) if self._not_ready is None else self._not_ready.since
            self._not_ready = NotReady(_in_words(self._troubles), began)
        return self._not_ready

    def _trouble(self, worker: Seen, excused: float, now: float) -> tuple[_Trouble, float] | None:
        """What keeps a worker from answering, and since when. None if it answers."""
        heartbeat, progress = max(worker.heartbeat, excused), max(worker.progress, excused)
        if now - heartbeat >= SILENT_SECONDS:
            return _Trouble.SILENT, heartbeat
        if self._waiting_since is not None and now - max(progress, self._waiting_since) >= worker.unready:
            return _Trouble.STUCK, max(progress, self._waiting_since)
        full = self._full_since.get(worker.serial, now)
        return (_Trouble.FULL, full) if now - full >= worker.unready else None


def _in_words(troubles: list[tuple[Seen, _Trouble]]) -> str:
    kinds = [kind for kind in _Trouble if any(trouble is kind for _, trouble in troubles)]
    if len(kinds) == 1:
        words = kinds[0].of_all
    else:
        words = ", ".join(
            kind.of_some.format(_workers([worker.slot for worker, trouble in troubles if trouble is kind]))
            for kind in kinds
        )
    debugged = [worker.slot for worker, _ in troubles if worker.is_debugged]
    return f"{words} ({_workers(debugged)} may stand at a breakpoint)" if debugged else words


def _workers(slots: list[int]) -> str:
    return f"worker{'s' if len(slots) > 1 else ''} {', '.join(map(str, sorted(slots)))}"
