"""What must not be left when the torment is over: memory, descriptors, threads, zombies, files, shared memory."""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import open_files
from tests.support.soak.scene import Scene

MOST_GROWTH_BYTES = 24 << 20
"""Of the master's private memory: its events and the lines of failures are bounded, and are there after a while."""


@dataclass(frozen=True)
class Belongings:
    """What a service has at rest."""

    processes: Counter[str]
    """By their titles, without the generation."""
    descriptors: Counter[str]
    """The master's, by what they are."""
    threads: int
    """The master's."""
    workers_descriptors: int
    """The most that a worker has."""
    private_bytes: int
    """The master's."""
    files: frozenset[str]
    shared_memory: frozenset[str]


def belongings(scene: Scene) -> Belongings:
    """Look at a service."""
    master = scene.service.pid
    family = scene.service.family
    workers = [each["pid"] for each in scene.service.workers()]
    return Belongings(
        Counter(_title(pid) for pid in family),
        Counter(_kinds(master)),
        len(os.listdir(f"/proc/{master}/task")),
        max((len(_kinds(pid)) for pid in workers), default=0),
        _private_bytes(master),
        frozenset(scene.files()),
        frozenset(os.listdir("/dev/shm")),
    )


def leaked(before: Belongings, after: Belongings) -> list[str]:
    """What there is more of than before."""
    found = [
        f"{what}: {dict(more)}"
        for what, more in (
            ("processes", after.processes - before.processes),
            ("descriptors of the master", after.descriptors - before.descriptors),
        )
        if more
    ]
    if after.threads > before.threads:
        found.append(f"threads of the master: {before.threads}, {after.threads}")
    if after.workers_descriptors > before.workers_descriptors:
        found.append(f"descriptors of a worker: {before.workers_descriptors}, {after.workers_descriptors}")
    if after.private_bytes > before.private_bytes + MOST_GROWTH_BYTES:
        found.append(f"private memory of the master: {before.private_bytes}, {after.private_bytes}")
    if after.files - before.files:
        found.append(f"files: {sorted(after.files - before.files)}")
    return found


def _title(pid: int) -> str:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except OSError:
        return "one that ends"
    return " ".join(word for word in title.split()[:2]) or "zombie"


def _kinds(pid: int) -> list[str]:
    """What each descriptor is, without the numbers of its sockets."""
    return [re.sub(r":\[.*|-{1,2}\d+|/proc/\d+", "", target) for target in open_files(pid).values()]


def _private_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Private_"))
