"""What a forked process must not inherit from its template, and how it exits."""

import atexit
import os
import select
import sys
import weakref
from typing import Any


def forget_template_exit_handlers() -> None:
    """Drop the exit handlers and finalizers that were registered before the fork. They belong to the template.

    Otherwise the first worker to exit would, for example, delete a TemporaryDirectory that the application's module
    created at import and that all other workers still use.
    """
    atexit._clear()
    # Neither atexit nor weakref has a public call for this. Both have had these internals since Python 3.4.
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):
        finalizer.atexit = False
    if finalize._registered_with_atexit:
        # weakref registers its exit function only once per process, and the worker's own finalizers need it.
        atexit.register(finalize._exitfunc)


def leave(status: int) -> None:
    """Run the exit handlers that were registered in this process, and exit with `status`.

    Uses os._exit, not sys.exit: interpreter shutdown would destroy the objects from before the fork and run their
    finalizers.
    """
    try:
        atexit._run_exitfuncs()
    finally:
        flush_output()
        os._exit(status)


def wait_for_child(pid: int) -> int:
    """Wait for a child of this process and return its wait status.

    Returns 0 if the application ignores SIGCHLD: the kernel then discards the status (wait(2)).
    """
    try:
        return os.waitpid(pid, 0)[1]
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
    select.select([descriptor], [], [])
    os.close(descriptor)


def flush_output() -> None:
    """Flush stdout and stderr. Otherwise both processes write what is buffered at a fork."""
    for stream in (sys.stdout, sys.stderr):
        try:
            getattr(stream, "flush_all", stream.flush)()
        except Exception:
            # The application has closed, replaced or broken the stream. Its output cannot be saved here.
            continue
