"""Reads the resource usage of a process from /proc (proc(5)). A process that is gone or unreadable gives None."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat, counted from the first one after the command. The command is in parentheses and may
# contain any character, also spaces and parentheses.
_USER_TICKS = 11
_SYSTEM_TICKS = 12
_RESIDENT_PAGES = 21


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """The resources that a process uses."""

    cpu_seconds: float
    """User and system time since its start."""
    resident_bytes: int
    """Resident memory, including the pages that are shared with the template."""
    open_fds: int


def process_usage(pid: int, proc: Path = PROC) -> ProcessUsage | None:
    """Return the current usage of a process, or None if it cannot be read."""
    try:
        open_fds = _open_fds(f"{proc}/{pid}/fd")
    except OSError:
        return None
    found = cpu_and_memory(pid, proc)
    return None if found is None else ProcessUsage(*found, open_fds)


def cpu_and_memory(pid: int, proc: Path = PROC) -> tuple[float, int] | None:
    """Return the CPU seconds and the resident bytes of a process, or None if they cannot be read. One file is read."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:  # Not joined by pathlib, which takes as long again.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    cpu_seconds = (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND
    return cpu_seconds, int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES


def _open_fds(directory: str) -> int:
    # Linux 6.2 and newer report the number as the directory's size. Older kernels report 0.
    return os.stat(directory).st_size or len(os.listdir(directory))


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """The memory of a process without counting pages of the template in full in each worker."""

    pss_bytes: int
    """Its private pages, and its share of the pages that it shares: half of a page that two processes share."""
    private_bytes: int
    """What becomes free if the process ends. The resident size counts every page of the template in each worker."""


def process_memory(pid: int, proc: Path = PROC) -> ProcessMemory | None:
    """Return the memory of a process, or None if it cannot be read.

    The kernel walks the page tables for this. That takes 2 ms for each 100 MB, so do not call this at every tick.
    """
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return None
    sizes = {name: int(rest.split()[0]) * 1024 for name, colon, rest in (line.partition(b":") for line in lines[1:])}
    # A process that has ended and is not reaped yet has no memory, and the file has no lines.
    if b"Pss" not in sizes:
        return None
    return ProcessMemory(sizes[b"Pss"], sizes[b"Private_Clean"] + sizes[b"Private_Dirty"])
