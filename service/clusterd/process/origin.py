"""Where a process of the application comes from: told by its process group, and by the variables of its environment."""

import os
from pathlib import Path

from clusterd.config import marks
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a process comes from. 0 is unknown.

    A process that was only forked has the environment of its template in /proc, and no `worker`; it has the `group`.
    """

    group: int = 0
    """Its process group. That of a worker has the worker's pid."""
    worker: int = 0
    generation: int = 0


def origin_of(pid: int, master: int) -> Origin:
    """Where a process comes from, if its generation was started by this master, which may be dead by now."""
    try:
        group = os.getpgid(pid)
        written = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return Origin()  # It has ended, or it runs as another user.
    variables = dict(each.split("=", 1) for each in written.decode(errors="replace").split("\0") if "=" in each)
    if variables.get(marks.MASTER_PID) != str(master):
        return Origin(group)
    return Origin(group, _number(variables, marks.WORKER_PID), _number(variables, marks.GENERATION))


def command_of(pid: int) -> str:
    """The command line of a process, for the log."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _number(variables: dict[str, str], name: str) -> int:
    value = variables.get(name, "")
    return int(value) if value.isdecimal() else 0
