"""How often the kernel's OOM killer has killed a process of this service.

The kernel does not say which process it killed. It only increments a counter, and the master sees a process that died
of a SIGKILL which clusterd did not send.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

EXPLAINS_SECONDS = 10.0
"""How long after the counter has risen a death may still be due to it: a large process takes a while to die."""

_GROUPS = Path("/sys/fs/cgroup")


def counter_files(own_groups: Iterable[str], mounted: Path = _GROUPS) -> Iterator[Path]:
    """Yield the files that may hold the counter, best first. `own_groups`: the lines of /proc/self/cgroup (cgroups(7)).

    In a version 2 hierarchy this is memory.events, which includes the groups below. In version 1 it is
    memory.oom_control. The counter of the machine comes last, because it also counts kills outside this service.
    """
    for line in own_groups:
        _, controllers, path = line.rstrip("\n").split(":", 2)
        if controllers == "":
            yield mounted / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            yield mounted / "memory" / path.lstrip("/") / "memory.oom_control"
    yield Path("/proc/vmstat")


def read_count(text: str) -> int | None:
    """The number in the line `oom_kill N`; None if there is no such line (kernels before 4.13)."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), None)


def own_counter() -> Callable[[], int | None]:
    """Return a function that reads the counter of this process's group. It returns None if there is no counter."""
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
    """Kills that the kernel has counted and that do not explain a death yet."""

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count
        self._seen = count() or 0
        self._unexplained: list[float] = []
        """When clusterd saw each kill, by time.monotonic()."""

    def look(self, now: float) -> None:
        """Read the counter, at `now` (time.monotonic())."""
        count = self._count() or 0
        self._unexplained = [at for at in self._unexplained if now - at < EXPLAINS_SECONDS]
        self._unexplained += [now] * (count - self._seen)
        self._seen = count

    def explains(self, now: float) -> bool:
        """Whether a SIGKILL that clusterd did not send is probably the kernel's. Each kill explains one death."""
        self.look(now)
        if not self._unexplained:
            return False
        self._unexplained.pop(0)
        return True
