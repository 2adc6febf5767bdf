"""The memory of the workers, as it was last read.

The kernel walks the page tables of a process for it, 2 ms for each 100 MB. So it is read rarely, of one worker at a
time, and beside the master's loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from clusterd.metrics.kernel.procfs import ProcessMemory, process_memory
from clusterd.metrics.page.observed import SlotMemory
from clusterd.records import dataclass
from clusterd.runtime import originals

SAMPLE_SECONDS = 30.0
"""The least time between two samples of a worker."""
LIMITED_SAMPLE_SECONDS = 5.0
"""The same for a worker with a limit of its memory."""

_Then = Callable[[ProcessMemory | None], None]


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    memory: ProcessMemory | None
    """None if it could not be read."""


class MemorySampler:
    """Keeps the last sample of each worker. Times are those of time.monotonic().

    `read` begins to read the memory of a process, and passes it on later.
    """

    def __init__(self, read: Callable[[int, _Then], None]) -> None:
        self._read = read
        self._samples: dict[int, _Sample] = {}
        self._reading: int | None = None

    def look(self, periods: Mapping[int, float], now: float) -> None:
        """Sample at most one worker, the one that is due for longest. Forget all that are not in `periods`.

        `periods`: seconds between two samples of each worker, by its pid.
        """
        never = _Sample(float("-inf"), None)
        self._samples = {pid: self._samples.get(pid, never) for pid in periods}
        if self._reading in periods:
            return
        self._reading = None
        due = {pid: self._samples[pid].at + seconds for pid, seconds in periods.items()}
        pid = min(due, key=due.__getitem__, default=None)
        if pid is not None and due[pid] <= now:
            self._reading = pid
            self._read(pid, partial(self._was_read, pid, now))

    def _was_read(self, pid: int, at: float, memory: ProcessMemory | None) -> None:
        if pid == self._reading:
            self._reading = None
            self._samples[pid] = _Sample(at, memory)

    def private_bytes(self, pid: int) -> int | None:
        """What becomes free if the process ends. None if that was not read yet."""
        sample = self._samples.get(pid)
        return None if sample is None or sample.memory is None else sample.memory.private_bytes

    def by_slot(self, slots: Mapping[int, int], now: float) -> dict[int, SlotMemory]:
        """The memory of each slot that has a worker with a sample. `slots`: the slot of each pid."""
        found: dict[int, SlotMemory] = {}
        for pid, slot in slots.items():
            sample = self._samples.get(pid)
            if sample is not None and sample.memory is not None:
                other = found.get(slot, SlotMemory(0, 0, 0.0))
                found[slot] = SlotMemory(
                    other.pss_bytes + sample.memory.pss_bytes,
                    other.private_bytes + sample.memory.private_bytes,
                    max(other.age_seconds, now - sample.at),
                )
        return found


def sampler_beside(loop: asyncio.AbstractEventLoop) -> MemorySampler:
    """Return a sampler that reads in threads, so that a worker of many gigabytes does not hold up `loop`."""

    def read(pid: int, then: _Then) -> None:
        def work() -> None:
            memory = process_memory(pid)
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(then, memory)

        try:
            originals.start_new_thread(work, ())
        except RuntimeError:  # There are too many threads.
            then(None)

    return MemorySampler(read)
