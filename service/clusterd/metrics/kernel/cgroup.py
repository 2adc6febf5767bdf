"""What the control group of this service has, may have, and lacks (cgroups(7), version 2).

Under systemd the group is the unit. Pressure is the time in which processes wait for a resource that they could use
(https://docs.kernel.org/accounting/psi.html).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_PRESSURE = re.compile(r"^(some|full) .*total=(\d+)$", re.MULTILINE)
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """The state at one moment. None for what cannot be read."""

    cpu_waiting_seconds: float | None = None
    """Time in which at least one process could run and had no CPU."""
    memory_waiting_seconds: float | None = None
    """Time in which at least one process waited for memory."""
    memory_stalled_seconds: float | None = None
    """Time in which all processes that had work waited for memory."""
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    """The least limit of the group and those above it. None if there is none."""
    oom_kills: int | None = None
    """How many processes of the group the kernel has killed for want of memory, since the group exists."""


class Cgroup:
    """Reads the files of a control group. `directory` is None if there is no hierarchy of version 2."""

    def __init__(self, directory: Path | None, mounted: Path = MOUNTED) -> None:
        self._directory = directory
        self._mounted = mounted

    @classmethod
    def own(cls, own_groups: Path = OWN_GROUPS, mounted: Path = MOUNTED) -> "Cgroup":
        """The group of this process."""
        try:
            return cls(_directory(own_groups.read_text().splitlines(), mounted), mounted)
        except OSError:
            return cls(None, mounted)

    def usage(self) -> CgroupUsage:
        """Read the files."""
        if self._directory is None:
            return CgroupUsage()
        cpu, memory = _pressure(self._directory / "cpu.pressure"), _pressure(self._directory / "memory.pressure")
        return CgroupUsage(
            cpu_waiting_seconds=cpu.get("some"),
            memory_waiting_seconds=memory.get("some"),
            memory_stalled_seconds=memory.get("full"),
            memory_bytes=_number(self._directory / "memory.current"),
            memory_limit_bytes=self._memory_limit(self._directory),
            oom_kills=self.oom_kills(),
        )

    def oom_kills(self) -> int | None:
        """How many processes of the group and those below it the kernel has killed for want of memory."""
        return None if self._directory is None else oom_kills_in(self._directory / "memory.events")

    def _memory_limit(self, directory: Path) -> int | None:
        above = (each for each in (directory, *directory.parents) if each.is_relative_to(self._mounted))
        return min((limit for each in above if (limit := _number(each / "memory.max")) is not None), default=None)


def oom_kills_in(file: Path) -> int | None:
    """The number in the line `oom_kill N`; None if there is no such line (kernels before 4.13), or no such file."""
    return next((int(line.split()[1]) for line in _text(file).splitlines() if line.startswith("oom_kill ")), None)


def _directory(own_groups: Iterable[str], mounted: Path) -> Path | None:
    paths = [line.removeprefix("0::").lstrip("/") for line in own_groups if line.startswith("0::")]
    # Version 2 is mounted below `unified` beside one of version 1.
    found = (mount / path for path in paths for mount in (mounted, mounted / "unified"))
    return next((each for each in found if (each / "cgroup.controllers").exists()), None)


def _pressure(file: Path) -> dict[str, float]:
    """Seconds, by `some` and `full`. Empty if the kernel does not measure pressure."""
    return {kind: int(total) / _MICROSECONDS for kind, total in _PRESSURE.findall(_text(file))}


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
