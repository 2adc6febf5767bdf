"""Sets what `ps` shows of a process: the command line `clusterd: worker 2 gen 3` and the name `clusterd-w2`.

In an instance the command line is `clusterd@NAME: worker 2 gen 3`. The name has room for 15 bytes only.

The command line is the memory in which exec(2) put the arguments. A process changes it by writing there. Python keeps
copies of its arguments and does not read that memory again. A template is started with a padding argument, so that the
titles of its workers always fit.
"""

import ctypes
from functools import cache

from clusterd.linux.prctl import set_argument_end, set_comm
from clusterd.service_name import SERVICE

PADDING = "-" * 64
"""An argument for a process that will need space for a title."""


def set_title(title: str, comm: str) -> None:
    """Show the service and `title`, cut to the available space, as the command line, and `comm` as the name."""
    set_comm(comm)
    start, end = _argument_memory()
    if end <= start:
        return
    text = f"{SERVICE}: {title}".encode()[: end - start - 1]
    ctypes.memmove(start, text + bytes(end - start - len(text)), end - start)
    set_argument_end(start + len(text) + 1)


@cache
def _argument_memory() -> tuple[int, int]:
    """Return where exec(2) put the arguments: arg_start and arg_end, fields 48 and 49 of proc_pid_stat(5).

    The result is cached over forks, because a title may have moved arg_end. It is (0, 0) if /proc is not readable.
    """
    try:
        with open("/proc/self/stat", "rb") as stat:
            # The name in field 2 may contain spaces and parentheses. Field 3 follows its last parenthesis.
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[45]), int(fields[46])
