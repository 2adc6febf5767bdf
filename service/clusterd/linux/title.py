"""What `ps` shows of a process: the command line `clusterd: worker 2 gen 3`, the name `clusterd-w2`.

The command line is the memory that exec(2) put the arguments in; a process changes it by writing
there. Python keeps copies of its arguments, so nothing of it reads that memory again. A template
is started with a padding argument so that the titles of its workers always fit.
"""

import ctypes
from functools import cache

from clusterd.linux.prctl import set_argument_end, set_comm

PADDING = "-" * 64
"""An argument for a process that will need room for a title."""


def set_title(title: str, comm: str) -> None:
    """Show `title` as this process's command line (cut to the room there is) and `comm` as its name."""
    set_comm(comm)
    start, end = _argument_memory()
    if end <= start:
        return
    text = title.encode()[: end - start - 1]
    ctypes.memmove(start, text + bytes(end - start - len(text)), end - start)
    set_argument_end(start + len(text) + 1)


@cache
def _argument_memory() -> tuple[int, int]:
    """Where exec(2) put the arguments: proc_pid_stat(5), arg_start and arg_end, fields 48 and 49.

    Kept over forks: a title may have moved arg_end since. (0, 0) where /proc does not tell.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            # The name in field 2 may hold spaces and parentheses; field 3 follows its last one.
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[45]), int(fields[46])
