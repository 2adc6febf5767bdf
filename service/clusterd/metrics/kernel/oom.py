"""Whether the kernel's OOM killer has killed a process of this service.

The kernel increments a counter, and the master sees a process that died of a SIGKILL which clusterd did not send. The
counter of the service's control group is enough to know. That of the machine is not: there the kernel's log says which
process it was, where this process may read it.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from io import RawIOBase
from pathlib import Path

from clusterd.metrics.kernel.cgroup import MOUNTED, OWN_GROUPS, Cgroup, oom_kills_in
from clusterd.records import dataclass

EXPLAINS_SECONDS = 10.0
"""How long after the counter has risen a death may still be due to it: a large process takes a while to die."""

_MACHINE = Path("/proc/vmstat")
_KERNEL_LOG = "/dev/kmsg"
_RECORD_BYTES = 8192
_MOST_RECORDS = 100_000
_match_killed = re.compile(rb"[0-9]+,[0-9]+,([0-9]+),[^;]*;.*Killed process ([0-9]+) ").match


class ForMemory(Enum):
    """Whether a process was killed because memory ran out."""

    NO = "no"
    PROBABLY = "probably"
    SURELY = "surely"


@dataclass(frozen=True, slots=True)
class Counter:
    """A count of the processes that the kernel has killed for want of memory. `read` returns None if there is none."""

    read: Callable[[], int | None]
    is_own: bool
    """Whether it counts only the processes of this service."""


def own_counter(own_groups: Path = OWN_GROUPS, mounted: Path = MOUNTED, machine: Path = _MACHINE) -> Counter:
    """Return the counter of this process's group, or else that of the machine.

    A hierarchy of version 2 counts the groups below as well. The machine's counter comes last, because it also counts
    kills outside this service.
    """
    group = Cgroup.own(own_groups, mounted)
    if group.oom_kills() is not None:
        return Counter(group.oom_kills, is_own=True)
    return Counter(partial(oom_kills_in, machine), is_own=False)


def killed_in_log(since: float, path: str = _KERNEL_LOG) -> frozenset[int]:
    """The pids that the kernel's log says were killed for want of memory after `since` (time.monotonic()).

    Empty if this process may not read the log, and where the kernel knows its processes by other pids (a container).
    """
    try:
        with open(path, "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as log:
            return killed(_records(log), since)
    except OSError:
        return frozenset()


def killed(records: Iterable[bytes], since: float) -> frozenset[int]:
    """The same of records of the kernel's log (Documentation/ABI/testing/dev-kmsg)."""
    found = filter(None, map(_match_killed, records))
    return frozenset(int(match[2]) for match in found if int(match[1]) / 1e6 >= since)


def _records(log: RawIOBase) -> Iterator[bytes]:
    for _ in range(_MOST_RECORDS):
        try:
            record = log.read(_RECORD_BYTES)
        except BrokenPipeError:  # Records were overwritten before they were read.
            continue
        if not record:  # None: nothing more has been logged.
            return
        yield record


class MemoryKills:
    """Kills that the kernel has counted and that do not explain a death yet.

    `named` returns the pids that the kernel's log names, as `killed_in_log` does.
    """

    def __init__(self, counter: Counter, named: Callable[[float], frozenset[int]] = killed_in_log) -> None:
        self._counter = counter
        self._named = named
        self._seen = counter.read() or 0
        self._unexplained: list[float] = []
        """When clusterd saw each kill, by time.monotonic()."""

    def look(self, now: float) -> None:
        """Read the counter, at `now` (time.monotonic())."""
        count = self._counter.read()
        if count is None:  # There is no counter, or this process may open no more files now.
            count = self._seen
        self._unexplained = [at for at in self._unexplained if now - at < EXPLAINS_SECONDS]
        self._unexplained += [now] * (count - self._seen)
        self._seen = count

    def judge(self, pid: int, now: float) -> ForMemory:
        """Whether a SIGKILL of `pid` that clusterd did not send was for memory. Each kill explains one death."""
        self.look(now)
        if not self._unexplained:
            return ForMemory.NO
        self._unexplained.pop(0)
        if self._counter.is_own or pid in self._named(now - EXPLAINS_SECONDS):
            return ForMemory.SURELY
        return ForMemory.PROBABLY
