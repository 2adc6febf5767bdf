"""What /proc tells about a process (proc(5)). One that is gone, or another user's, is None, not an error."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat counted from the one after the command, which is in brackets and may hold anything.
_USER_TICKS = 11
_SYSTEM_TICKS = 12
_RESIDENT_PAGES = 21


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process uses of the machine."""

    cpu_seconds: float
    """User and system time since its start."""
    resident_bytes: int
    """Memory it has in RAM, what it shares with its template included."""
    open_fds: int


def process_usage(pid: int, proc: Path = PROC) -> ProcessUsage | None:
    """What a process uses now."""
    directory = proc / str(pid)
    try:
        fields = (directory / "stat").read_bytes().rpartition(b")")[2].split()
        open_fds = _open_fds(directory / "fd")
    except OSError:
        return None
    return ProcessUsage(
        (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND,
        int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES,
        open_fds,
    )


def _open_fds(directory: Path) -> int:
    # Linux 6.2 and newer give the number as the directory's size; before, they have to be listed.
    return directory.stat().st_size or len(os.listdir(directory))


def private_memory_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Memory that ending the process would give back.

    Not the resident size, which counts every page of the template in each worker again. The kernel walks the
    page tables for this: milliseconds for a large process, so it is not for every tick.
    """
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return None
    private = [line.split()[1] for line in lines if line.startswith((b"Private_Clean:", b"Private_Dirty:"))]
    # A process that has ended and is not reaped yet has no memory left, and no lines.
    return sum(map(int, private)) * 1024 if private else None
