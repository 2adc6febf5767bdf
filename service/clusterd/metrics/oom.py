"""How often the kernel has killed a process of this service for want of memory.

It tells nobody whom it has killed: only a count, and a SIGKILL that nobody here has sent.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

EXPLAINS_SECONDS = 10.0
"""How long after a kill was counted a death may be its: a large process takes a while to die."""

_GROUPS = Path("/sys/fs/cgroup")


def counter_files(own_groups: Iterable[str], mounted: Path = _GROUPS) -> Iterator[Path]:
    """Where the count may be, the best first; `own_groups` are the lines of /proc/self/cgroup (cgroups(7)).

    In a version 2 hierarchy memory.events, which includes the groups below; in one of version 1 memory.oom_control. The
    machine's is the last resort: a kill elsewhere is counted there too.
    """
    for line in own_groups:
        _, controllers, path = line.rstrip("\n").split(":", 2)
        if controllers == "":
            yield mounted / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield mounted / "memory" / path.lstrip("/") / "memory.oom_control"
    yield Path("/proc/vmstat")


def read_count(text: str) -> int | None:
    """The number in a line `oom_kill N`; None where there is none (a kernel before 4.13)."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)


def own_counter() -> Callable[[], int | None]:
    """What reads the count of this process's group; it gives None where nothing tells."""
    try:
        with open("/proc/self/cgroup") as file:
            files = list(counter_files(file))
    except OSError:
        files = []
    chosen = next((file for file in files if _read(file) is not None), None)
    return lambda: None if chosen is None else _read(chosen)


def _read(file: Path) -> int | None:
    try:
        return read_count(os.fsdecode(file.read_bytes()))
    except OSError:
        return None


class MemoryKills:
    """Kills that were counted, and that no death has been explained by yet."""

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count
        self._seen = count() or 0
        self._unexplained: list[float] = []
        """When each was counted."""

    def look(self, now: float) -> None:
        """Look at the count, at `now` (time.monotonic())."""
        count = self._count() or 0
        self._unexplained = [at for at in self._unexplained if now - at < EXPLAINS_SECONDS]
        self._unexplained += [now] * (count - self._seen)
        self._seen = count

    def explains(self, now: float) -> bool:
        """Whether a SIGKILL that nobody has sent is probably the kernel's: each kill explains one."""
        self.look(now)
        if not self._unexplained:
            return False
        self._unexplained.pop(0)
        return True
