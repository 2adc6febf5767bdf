"""Sample the memory of the workers, one at a time and each rarely, because the kernel walks its page tables for it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from clusterd.metrics.kernel.procfs import ProcessMemory, process_memory
from clusterd.metrics.page.observed import SlotMemory

SAMPLE_SECONDS = 30.0
"""The least time between two samples of a worker."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    memory: ProcessMemory | None
    """None if it could not be read."""


class MemorySampler:
    """Keeps the last sample of each worker. Times are those of time.monotonic()."""

    def __init__(self, read: Callable[[int], ProcessMemory | None] = process_memory) -> None:
        self._read = read
        self._samples: dict[int, _Sample] = {}

    def look(self, pids: Iterable[int], now: float) -> None:
        """Sample at most one of these workers, the one that has waited the longest. Forget all others."""
        self._samples = {pid: self._samples.get(pid, _Sample(float("-inf"), None)) for pid in pids}
        pid = min(self._samples, key=lambda each: self._samples[each].at, default=None)
        if pid is not None and now - self._samples[pid].at >= SAMPLE_SECONDS:
            self._samples[pid] = _Sample(now, self._read(pid))

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
