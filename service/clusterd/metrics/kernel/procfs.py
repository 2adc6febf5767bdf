"""Reads the resource usage of a process from /proc (proc(5)). A process that is gone or unreadable gives None."""

import os
from pathlib import Path

from clusterd.records import dataclass

PROC = Path("/proc")

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/PID/stat, counted from the first one after the command. The command is in parentheses and may
# contain any character, also spaces and parentheses.
_STATE = 0
_STOPPED = (b"T", b"t", b"Z", b"X")
_PARENT = 1
_USER_TICKS = 11
_SYSTEM_TICKS = 12
_START_TICKS = 19
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
    fields = _stat(f"{proc}/{pid}")
    if fields is None:
        return None
    cpu_seconds = (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND
    return cpu_seconds, int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a process from a later one with the same pid, and whose child it is."""

    started: int
    """When it began, in ticks since the machine has started."""
    parent: int


def identity(pid: int, proc: Path = PROC) -> Identity | None:
    """Return the identity of a process, also of one that has ended and is not reaped. None if there is none."""
    fields = _stat(f"{proc}/{pid}")
    return None if fields is None else Identity(int(fields[_START_TICKS]), int(fields[_PARENT]))


def is_stopped(pid: int, proc: Path = PROC) -> bool:
    """Whether every thread of a process is stopped (SIGSTOP). Raises ProcessLookupError if there is no such process."""
    try:
        threads = os.listdir(f"{proc}/{pid}/task")
    except OSError:
        raise ProcessLookupError(pid) from None
    found = (_stat(f"{proc}/{pid}/task/{each}") for each in threads)
    return all(fields is None or fields[_STATE] in _STOPPED for fields in found)


def _stat(directory: str) -> list[bytes] | None:
    try:
        with open(f"{directory}/stat", "rb", buffering=0) as file:  # Not joined by pathlib, which takes as long again.
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


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
