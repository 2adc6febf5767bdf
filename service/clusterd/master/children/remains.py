"""End the processes that the application has started in a worker, or at its import, and that outlive it.

They are found among the orphans, which the master inherits as a subreaper. A process that has left the process group of
its worker and has cleaned its environment is not recognised; it ends with the service (`orphans.py`).
"""

import os
import signal
from collections.abc import Mapping

from clusterd.log import Logger
from clusterd.master.children.child import Kind
from clusterd.master.children.orphans import inherited_above, own_children
from clusterd.master.children.processes import Processes
from clusterd.master.children.table import Children
from clusterd.process.origin import Origin, command_of, origin_of

LEAST_SECONDS = 2.0
"""The least time between SIGTERM and SIGKILL."""


class Remains:
    """Ends what is left of workers and generations that are gone. `look` is called a few times a second."""

    def __init__(self, children: Children, processes: Processes, log: Logger) -> None:
        self._children = children
        self._processes = processes
        self._log = log
        self._gone: dict[int, float] = {}
        """Workers that are gone, by pid, and when what is left of them is killed."""
        self._origins: dict[int, Origin] = {}
        """Of the orphans, by pid."""
        self._ending: dict[int, float] = {}
        """The processes that were sent SIGTERM, and when they are sent SIGKILL."""

    def worker_gone(self, pid: int, until: float) -> None:
        """A worker has ended. What it has left gets SIGTERM now, and SIGKILL `until`, by time.monotonic()."""
        self._gone[pid] = until

    def kept(self) -> dict[int, float]:
        """What another program of the master goes on with. What it finds of them gets SIGTERM once more."""
        return dict(self._gone)

    def resume(self, gone: Mapping[int, float]) -> None:
        """Go on with the dead workers of an earlier program, unless a living one has got the pid of one."""
        self._gone = {pid: until for pid, until in gone.items() if pid not in self._children.pids}

    def look(self, now: float) -> None:
        """Look once."""
        orphans = own_children() - self._children.pids
        if self._children.has_adopted:
            orphans |= inherited_above() - self._children.pids
        first_master = self._processes.first_master
        self._origins = {pid: self._origins.get(pid) or origin_of(pid, first_master) for pid in orphans}
        self._ending = {pid: until for pid, until in self._ending.items() if pid in orphans}
        for pid, origin in self._origins.items():
            if pid in self._ending:
                if now >= self._ending[pid]:
                    self._log.warning("killing a process of the application that ignores SIGTERM", pid=pid)
                    os.kill(pid, signal.SIGKILL)
            elif (of := self._owner_that_is_gone(origin)) is not None:
                self._log.info(f"ending a process that {of} has left behind", pid=pid, command=command_of(pid))
                os.kill(pid, signal.SIGTERM)
                until = self._gone.get(origin.worker, self._gone.get(origin.group, 0.0))
                self._ending[pid] = max(until, now + LEAST_SECONDS)
        self._gone = {pid: until for pid, until in self._gone.items() if _group_exists(pid)}

    def _owner_that_is_gone(self, origin: Origin) -> str | None:
        """The owner of a process, in words. None if it is alive, or if the process is not the application's."""
        if origin.group in self._gone:
            return f"worker {origin.group}"
        alive = self._children.all()
        if origin.worker and all(child.pid != origin.worker for child in alive if child.kind is Kind.WORKER):
            return f"worker {origin.worker}"
        if origin.generation and all(child.generation != origin.generation for child in alive):
            return f"generation {origin.generation}"
        return None


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
