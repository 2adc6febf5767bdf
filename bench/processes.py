"""What processes use, by proc(5)."""

import os
from collections.abc import Iterator
from pathlib import Path


def proportional_set_size(pid: int) -> int:
    """In bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


def private_memory(pid: int) -> int:
    """What it shares with no other process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))) * 1024


def processor_seconds(pid: int) -> float:
    """What a process has used, in threads of its own and in the kernel, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """A process and what descends from it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def switches(pid: int) -> int:
    """How often a thread of it has waited for something, and was woken up."""
    counted = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        _, _, rest = status.read_text().partition("\nvoluntary_ctxt_switches:")
        counted += int(rest.split(maxsplit=1)[0])
    return counted
