"""What a forked process must not inherit from its template, and how it leaves."""

import atexit
import os
import select
import sys
import weakref
from typing import Any


def forget_template_exit_handlers() -> None:
    """Handlers and finalizers registered before the fork belong to the template and run in no worker.

    Otherwise the first worker to exit would, for example, delete a TemporaryDirectory that the
    application's module made at import, under all others.
    """
    atexit._clear()
    # atexit and weakref have no public call for either; both have looked like this since Python 3.4.
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):
        finalizer.atexit = False
    if finalize._registered_with_atexit:
        # finalize registers itself once per process image; the worker's own finalizers need it.
        atexit.register(finalize._exitfunc)


def leave(status: int) -> None:
    """Exit, with the handlers that were registered in this process.

    os._exit and not sys.exit: tearing the interpreter down would destroy what was made before the
    fork, and run its finalizers.
    """
    try:
        atexit._run_exitfuncs()
    finally:
        flush_output()
        os._exit(status)


def wait_for_child(pid: int) -> int:
    """The wait status of a child of this process. 0 where the application ignores SIGCHLD: nobody is told then."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def wait_for_adoption(subreaper: int) -> None:
    """Return when this process is a child of `subreaper`: the process between it and its template has ended."""
    parent = os.getppid()
    if parent == subreaper:
        return
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        return  # it has ended meanwhile
    # The kernel hands children over before it tells of an end.
    select.select([descriptor], [], [])
    os.close(descriptor)


def flush_output() -> None:
    """Write out what print() has left in buffers: before a fork it would otherwise come twice."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            # Closed, replaced or broken by the application, in whatever way: nothing of it can be saved here.
            continue
