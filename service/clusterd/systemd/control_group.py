"""The control group of this process's own service (cgroups(7)), and who is in it. Standard library only."""

import os
from collections.abc import Iterable
from pathlib import Path

_MOUNTS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
"""Where systemd's own hierarchy is: of version 1, of both beside each other, of version 2."""


class ControlGroup:
    """The processes of this process's own service, without this one."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "cgroup.procs"

    @classmethod
    def own(cls) -> "ControlGroup | None":
        """Return it. None if this process is not part of a service: then nothing may be ended."""
        path = service_group(Path("/proc/self/cgroup").read_text().splitlines())
        if path is None:
            return None
        for mount in _MOUNTS:
            directory = Path(mount, path.lstrip("/"))
            if (directory / "cgroup.procs").is_file():
                return cls(directory)
        return None

    def pids(self) -> set[int]:
        """Return the pids. A process of another namespace of pids is 0, and is left out."""
        return {int(line) for line in self._file.read_text().split()} - {0, os.getpid()}


def service_group(lines: Iterable[str]) -> str | None:
    """Return the service's group from the lines of /proc/self/cgroup (cgroups(7)), None if there is no service.

    systemd runs the control processes of a unit with Delegate= in a group `.control` below it.
    """
    for line in lines:
        _, controllers, path = line.split(":", 2)
        path = path.removesuffix("/.control")
        if controllers in ("", "name=systemd") and path.endswith(".service"):
            return path
    return None
