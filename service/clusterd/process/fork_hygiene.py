"""What a process does around a fork: it waits for the other process, and writes what is buffered."""

import os
import select
import sys

from clusterd.runtime import originals


def wait_for_child(pid: int) -> int:
    """Wait for a child of this process and return its wait status.

    Returns 0 if the application ignores SIGCHLD: the kernel then discards the status (wait(2)).
    """
    try:
        return originals.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def wait_for_adoption(subreaper: int) -> None:
    """Return when this process is a child of `subreaper`, that is when the intermediate process has exited."""
    parent = os.getppid()
    if parent == subreaper:
        return
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        return  # The parent has exited in the meantime.
    # The kernel reparents the children of a process before it reports its exit.
    poll = originals.poll()  # Not select(2), which takes no descriptor above 1023.
    poll.register(descriptor, select.POLLIN)
    poll.poll()
    originals.close(descriptor)


def flush_output() -> None:
    """Flush stdout and stderr. Otherwise both processes write what is buffered at a fork."""
    for stream in (sys.stdout, sys.stderr):
        try:
            getattr(stream, "flush_all", stream.flush)()
        except Exception:
            # The application has closed, replaced or broken the stream. Its output cannot be saved here.
            continue
