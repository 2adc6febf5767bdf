"""What the control group of this service has, may have, and lacks (cgroups(7)).

Under systemd the group is the unit. Pressure is the time in which processes wait for a resource that they could use
(https://docs.kernel.org/accounting/psi.html); only version 2 has it. Memory is read of version 1 if that has it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from clusterd.records import dataclass

MOUNTED = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_PRESSURE = re.compile(r"^(some|full) .*total=(\d+)$", re.MULTILINE)
_MICROSECONDS = 1_000_000
_UNLIMITED_BYTES = 1 << 62
"""What version 1 calls no limit is above it."""


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
    """Without cached files: the kernel drops those before it kills anything."""
    memory_limit_bytes: int | None = None
    """The least limit of the group and those above it. None if there is none."""
    oom_kills: int | None = None
    """How many processes of the group the kernel has killed for want of memory, since the group exists."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """The part of it that both versions have."""

    used_bytes: int | None
    limit_bytes: int | None


class Cgroup:
    """Reads the files of a control group. A directory is None if there is no such hierarchy.

    `directory` is that of version 2. `memory` is that of version 1, for memory: a controller is in one of them only.
    """

    def __init__(self, directory: Path | None, memory: Path | None, mounted: Path = MOUNTED) -> None:
        self._directory = directory
        self._memory = memory
        self._mounted = mounted

    @classmethod
    def own(cls, own_groups: Path = OWN_GROUPS, mounted: Path = MOUNTED) -> "Cgroup":
        """The group of this process."""
        try:
            lines = own_groups.read_text().splitlines()
        except OSError:
            lines = []
        return cls(_directory(lines, mounted), _memory_directory(lines, mounted), mounted)

    def usage(self) -> CgroupUsage:
        """Read the files."""
        cpu, waiting = self._pressure("cpu.pressure"), self._pressure("memory.pressure")
        memory = _memory_of_version_1(self._memory) if self._memory else self._memory_of_version_2()
        return CgroupUsage(
            cpu_waiting_seconds=cpu.get("some"),
            memory_waiting_seconds=waiting.get("some"),
            memory_stalled_seconds=waiting.get("full"),
            memory_bytes=memory.used_bytes,
            memory_limit_bytes=memory.limit_bytes,
            oom_kills=self.oom_kills(),
        )

    def oom_kills(self) -> int | None:
        """How many processes of the group and those below it the kernel has killed for want of memory."""
        if self._memory is not None:
            return oom_kills_in(self._memory / "memory.oom_control")
        return None if self._directory is None else oom_kills_in(self._directory / "memory.events")

    def _pressure(self, name: str) -> dict[str, float]:
        """Seconds, by `some` and `full`. Empty if the kernel does not measure pressure."""
        if self._directory is None:
            return {}
        found = _PRESSURE.findall(_text(self._directory / name))
        return {kind: int(total) / _MICROSECONDS for kind, total in found}

    def _memory_of_version_2(self) -> _Memory:
        if self._directory is None:
            return _Memory(None, None)
        above = (each for each in (self._directory, *self._directory.parents) if each.is_relative_to(self._mounted))
        limits = (_number(each / "memory.max") for each in above)
        return _Memory(
            _without_files(_number(self._directory / "memory.current"), _fields(self._directory / "memory.stat")),
            min((limit for limit in limits if limit is not None), default=None),
        )


def _memory_of_version_1(directory: Path) -> _Memory:
    fields = _fields(directory / "memory.stat")
    limit = fields.get("hierarchical_memory_limit", _UNLIMITED_BYTES)
    return _Memory(
        _without_files(_number(directory / "memory.usage_in_bytes"), fields, "total_"),
        limit if limit < _UNLIMITED_BYTES else None,
    )


def _without_files(used: int | None, fields: dict[str, int], prefix: str = "") -> int | None:
    """The memory in use without pages of files. Shared memory is not among them."""
    if used is None:
        return None
    return max(0, used - sum(fields.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active")))


def oom_kills_in(file: Path) -> int | None:
    """The number in the line `oom_kill N`; None if there is no such line (kernels before 4.13), or no such file."""
    return _fields(file).get("oom_kill")


def _directory(own_groups: Iterable[str], mounted: Path) -> Path | None:
    paths = [line.removeprefix("0::").lstrip("/") for line in own_groups if line.startswith("0::")]
    # Version 2 is mounted below `unified` beside one of version 1.
    found = (mount / path for path in paths for mount in (mounted, mounted / "unified"))
    return next((each for each in found if (each / "cgroup.controllers").exists()), None)


def _memory_directory(own_groups: Iterable[str], mounted: Path) -> Path | None:
    groups = (line.split(":", 2) for line in own_groups)
    found = (mounted / "memory" / path.lstrip("/") for _, kinds, path in groups if "memory" in kinds.split(","))
    return next((each for each in found if (each / "memory.usage_in_bytes").exists()), None)


def _fields(file: Path) -> dict[str, int]:
    """The lines `NAME NUMBER` of a file."""
    return {line.split()[0]: int(line.split()[1]) for line in _text(file).splitlines()}


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
