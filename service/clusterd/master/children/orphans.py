"""The processes that an application started and left behind, ended with the service.

systemd ends what is left in the unit. Without it, a forgotten child would keep the listening sockets open that it
inherited, and the next start from its address.
"""

import os
import signal
import time
from pathlib import Path

TERM_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""
KILL_SECONDS = 2.0
"""After SIGKILL: a process that still is there waits for a device, and nobody can help it."""
_LOOK_SECONDS = 0.05


def end_orphans() -> int:
    """End every child of this process, the orphans that its subreaper inherits too; how many there were.

    Blocks: the master's last act.
    """
    # Blocked, so that it can be waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    asked: set[int] = set()
    term_until = time.monotonic() + TERM_SECONDS
    while (children := _children()) and time.monotonic() < term_until + KILL_SECONDS:
        is_late = time.monotonic() >= term_until
        for pid in children if is_late else children - asked:
            os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        asked |= children
        # Whoever these leave behind becomes a child of this process, and has its turn.
        signal.sigtimedwait([signal.SIGCHLD], _LOOK_SECONDS)
        while _reap_one():
            pass
    return len(asked)


def _children() -> set[int]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    except OSError:
        return set()  # a kernel without CONFIG_PROC_CHILDREN
    return {int(pid) for pid in text.split()}


def _reap_one() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False
