"""Forks in which the threads of an application's import wait until there is a worker that needs them.

Fork handlers of libraries begin threads in the child. In a process that only forks again these would be in the way: a
worker inherits each lock that one of them holds at that moment, and each connection that one has opened, for good.
"""

import concurrent.futures.thread
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clusterd.linux.prctl import die_with_parent
from clusterd.process.fork_hygiene import flush_output, wait_for_child
from clusterd.process.refused import why_refused
from clusterd.runtime import originals
from clusterd.runtime.hub import is_used

_JOBS: object = getattr(concurrent.futures.thread, "_worker", object())
"""What the threads of a ThreadPoolExecutor run."""


class ForkRefused(Exception):
    """There are too many processes, or there is not enough memory. The message says what limits it."""

    def __init__(self, number: int = errno.EAGAIN) -> None:
        super().__init__(why_refused(number))


def fork_without_threads() -> int:
    """Fork. In the child, the threads that fork handlers begin end at once. Raises OSError.

    Those of a ThreadPoolExecutor run: OpenTelemetry's handler waits for a job of one.
    """
    with _ended_threads():
        return originals.fork()


@contextmanager
def _ended_threads() -> Iterator[None]:
    """Have threads that begin in a child end at once. In this process they begin and go on."""
    # gevent puts a subclass in the place of the class, and OpenTelemetry a wrapper in the place of the method.
    kind: Any = next(each for each in threading.Thread.__mro__ if "start" in vars(each))
    written, start, parent = vars(kind)["start"], kind.start, os.getpid()

    def start_or_end(thread: Any) -> None:
        if os.getpid() == parent or getattr(thread, "_target", None) is _JOBS:
            start(thread)
        elif not is_used():  # A greenlet would have the hub turn in this process.
            thread.run = _nothing
            start(thread)
            thread.join()

    kind.start = start_or_end
    try:
        yield
    finally:
        kind.start = written


def _nothing() -> None:
    """Run in place of what a thread is for."""


def fork_copy() -> int:
    """Fork a copy of this process without its threads, which dies with this process. Raises ForkRefused."""
    parent = os.getpid()
    copy = fork_child(with_threads=False)
    if copy == 0:
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
    return copy


def fork_child(*, with_threads: bool) -> int:
    """Fork a child of this process, which has to reap it. Returns its pid, and 0 in the child. Raises ForkRefused."""
    flush_output()
    try:
        return (originals.fork if with_threads else fork_without_threads)()
    except OSError as error:
        raise ForkRefused(error.errno or errno.EAGAIN) from error


def fork_detached(*, with_threads: bool) -> bool:
    """Fork a process whose parent is the master, the subreaper, and not this process. True in the new process.

    Forks twice, because a subreaper adopts only orphans (prctl(2)): the intermediate process exits at once. Raises
    ForkRefused.
    """
    between = fork_child(with_threads=False)
    if between == 0:
        try:
            if (originals.fork if with_threads else fork_without_threads)() == 0:
                return True
        except OSError:
            os._exit(1)
        os._exit(0)
    if wait_for_child(between):
        raise ForkRefused
    return False
