"""Count restarts and rollouts, and note the outcome of the last reload, for the metrics."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import field

from clusterd.records import dataclass
from clusterd.supervisor.model.held import Cause
from clusterd.supervisor.model.load import ScaleCause
from clusterd.supervisor.model.states import COUNTED, RESTARTS, EndReason

SUCCEEDED = "succeeded"
FAILED = "failed"
UP, DOWN = "up", "down"
_SCALINGS = (
    *((UP, cause.value) for cause in ScaleCause if cause is not ScaleCause.IDLE),
    *((DOWN, cause.value) for cause in (ScaleCause.IDLE, ScaleCause.ASKED, ScaleCause.RELOAD)),
)
"""All that there can be, so that every series exists before it is counted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a program of the master. The fields are those of `Counts`."""

    restarts: dict[tuple[int, str], int]
    lost: dict[tuple[int, str], int]
    rollouts: dict[str, int]
    last_reload_succeeded: bool
    last_success_at: float
    scalings: dict[tuple[str, str], int] = field(default_factory=dict)
    masters_cpu_before: float = 0.0
    masters_cpu_shown: float = 0.0


class Counts:
    """Counts for the metrics. `clock` returns the time in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.restarts: Counter[tuple[int, str]] = Counter()
        """How many workers have ended, by slot and reason (COUNTED)."""
        self.lost: Counter[tuple[int, str]] = Counter()
        """The number of requests that have died with their worker, by slot and cause."""
        self.rollouts: Counter[str] = Counter({SUCCEEDED: 0, FAILED: 0})
        self.scalings: Counter[tuple[str, str]] = Counter(dict.fromkeys(_SCALINGS, 0))
        self.last_reload_succeeded = True
        self.last_success_at = clock()
        """Initially the time of the start, which loads the code and the configuration from disk like a reload."""
        self.masters_cpu_before = 0.0
        """The CPU seconds of the masters that have died, as far as they were shown."""
        self.masters_cpu_shown = 0.0
        """The CPU seconds of all masters that were shown last."""

    def kept(self) -> Kept:
        """What another program of the master goes on with."""
        rollouts, last = dict(self.rollouts), (self.last_reload_succeeded, self.last_success_at)
        cpu = self.masters_cpu_before, self.masters_cpu_shown
        return Kept(dict(self.restarts), dict(self.lost), rollouts, *last, dict(self.scalings), *cpu)

    def resume(self, kept: Kept, *, is_new_process: bool = False) -> None:
        """Go on with what an earlier program of the master has kept, in the same process or in a new one."""
        self.masters_cpu_before = kept.masters_cpu_shown if is_new_process else kept.masters_cpu_before
        self.masters_cpu_shown = kept.masters_cpu_shown
        self.restarts.update(kept.restarts)
        self.lost.update(kept.lost)
        self.scalings.update(kept.scalings)
        self.rollouts = Counter(kept.rollouts)
        self.last_reload_succeeded, self.last_success_at = kept.last_reload_succeeded, kept.last_success_at

    def masters_cpu(self, seconds: float) -> float:
        """Return the CPU time of all masters when that of this process is `seconds`, to be shown."""
        self.masters_cpu_shown = self.masters_cpu_before + seconds
        return self.masters_cpu_shown

    def restarts_of(self, slot: int) -> int:
        """How often a worker of a slot was replaced by one of its generation, for whatever reason."""
        return sum(self.restarts[slot, reason.value] for reason in RESTARTS)

    def all_restarts(self) -> int:
        """How often a worker of any slot was replaced by one of its generation."""
        return sum(count for (_, reason), count in self.restarts.items() if reason in RESTARTS)

    def worker_ended(self, slot: int, reason: EndReason, *, is_candidate: bool) -> None:
        """Count the end of a worker. The candidates of a rollout have replaced nothing: `rollouts` tells of them."""
        if reason in COUNTED and not is_candidate:
            self.restarts[slot, reason.value] += 1

    def scaled(self, before: int, workers: int, cause: ScaleCause) -> None:
        """Count a change of the number of workers."""
        if workers != before:
            self.scalings[UP if workers > before else DOWN, cause.value] += 1

    def requests_lost(self, slot: int, cause: Cause, count: int) -> None:
        """Count the requests that a worker had in hand when it died."""
        self.lost[slot, cause.value] += count

    def rollout_ended(self, *, succeeded: bool) -> None:
        """Count a rollout, and note its outcome."""
        self.rollouts[SUCCEEDED if succeeded else FAILED] += 1
        self.last_reload_succeeded = succeeded
        if succeeded:
            self.last_success_at = self._clock()
