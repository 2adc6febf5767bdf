"""End the orphans at the end of the service: the processes that the application started and left behind.

Under systemd, the manager ends what is left in the unit. Without systemd, an orphan would keep the inherited listening
sockets open, and the next start could not bind their addresses.
"""

import os
import signal
import time
from pathlib import Path

from clusterd.metrics.kernel.procfs import identity
from clusterd.systemd.control_group import ControlGroup

TERM_SECONDS = 2.0
"""The time between SIGTERM and SIGKILL."""
KILL_SECONDS = 2.0
"""How long to wait after SIGKILL. A process that is still alive then waits for a device, and cannot be ended."""
_LOOK_SECONDS = 0.05


def end_orphans() -> int:
    """End every child of this process, including the orphans that it inherits as a subreaper. Returns their number.

    This blocks; it is the last thing that the master does.
    """
    # sigtimedwait(2) needs the signal to be blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    asked: set[int] = set()
    term_until = time.monotonic() + TERM_SECONDS
    while (children := own_children()) and time.monotonic() < term_until + KILL_SECONDS:
        is_late = time.monotonic() >= term_until
        for pid in children if is_late else children - asked:
            os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        asked |= children
        # The children of these processes become children of this process, and a later turn of the loop ends them.
        signal.sigtimedwait([signal.SIGCHLD], _LOOK_SECONDS)
        while _reap_one():
            pass
    return len(asked)


def own_children() -> set[int]:
    """The pids of every child of this process. Empty if the kernel was built without CONFIG_PROC_CHILDREN."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return set()
    return {int(pid) for pid in text.split()}


def inherited_above() -> set[int]:
    """The pids in this service's control group whose parent is this process's own parent.

    What an earlier master has left is there, because that parent has inherited it. Empty outside of a service.
    """
    group, above = ControlGroup.own(), os.getppid()
    found = () if group is None else ((pid, identity(pid)) for pid in group.pids())
    return {pid for pid, its in found if its is not None and its.parent == above}


def _reap_one() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False
