"""How busy a worker is: the part of the time in which it works, or would if it had a CPU."""

import os
import time

from clusterd.metrics.shared.row import BUSY_UNIT
from clusterd.runtime import originals

_SCHEDSTAT = "/proc/thread-self/schedstat"
_SHORTEST_SECONDS = 0.05
"""Over a shorter time nothing is said."""


class Business:
    """Measures from one tick of the event loop to the next.

    The larger of two numbers counts: the time in which the loop's thread ran or waited for a CPU, and the CPU time of
    all threads, which share one interpreter and are together as busy as it can be when they use one CPU.
    """

    def __init__(self) -> None:
        self._at = time.monotonic_ns()
        self._cpu = time.process_time_ns()
        self._thread = originals.get_ident()
        self._runnable = _runnable_ns()
        self._busy = 0

    def tick(self) -> int:
        """Return how busy the worker was since the last tick, from 0 to BUSY_UNIT. Call it in the loop's thread."""
        now = time.monotonic_ns()
        passed = now - self._at
        if passed < _SHORTEST_SECONDS * 1e9:
            return self._busy
        cpu, runnable, thread = time.process_time_ns(), _runnable_ns(), originals.get_ident()
        # Another thread of the pool may have taken the loop over. What it did before says nothing of the loop.
        worked = max(cpu - self._cpu, runnable - self._runnable if thread == self._thread else 0)
        self._at, self._cpu, self._runnable, self._thread = now, cpu, runnable, thread
        self._busy = min(BUSY_UNIT, BUSY_UNIT * worked // passed)
        return self._busy


def _runnable_ns() -> int:
    """How long this thread has run or waited for a CPU, in nanoseconds. 0 if the kernel does not tell.

    The file has both, and the number of time slices (Documentation/scheduler/sched-stats.rst of Linux).
    """
    try:
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        ran, waited, _ = os.read(descriptor, 256).split()
    except (OSError, ValueError):
        return 0
    finally:
        originals.close(descriptor)
    return int(ran) + int(waited)
