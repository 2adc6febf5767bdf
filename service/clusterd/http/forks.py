"""Ends a process that the application has forked from a worker when it comes back to the engine.

Such a process is a copy of the worker, with every connection of it. If it went on, it would answer requests that the
worker answers as well.

With gevent, it also has a copy of every other greenlet. Those of requests rest when they come back: only the one that
has forked knows what the process is for.
"""

import os
import sys
import traceback
from typing import Any

from clusterd.runtime.hub import rest, this_greenlet

MESSAGE = (
    "clusterd: a process that the application has forked came back from its call, and ends: it is no worker. "
    "What it is to do has to end with os._exit()\n"
)


class Forks:
    """Knows whether this process is one."""

    __slots__ = ("_forker", "_is_fork")

    def __init__(self) -> None:
        self._is_fork = False
        self._forker: Any = None
        """The greenlet that has forked; None without gevent."""
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._is_fork = True
        self._forker = this_greenlet()

    def serve(self) -> None:
        """Take this process for a worker, although it was forked from a template."""
        self._is_fork = False

    def end_if_fork(self, error: BaseException | None = None) -> None:
        """End the process if the application has forked it from a worker. `error` is what its call has raised.

        Does not return in the copy of a greenlet that has not forked it.
        """
        if self._is_fork:
            if self._forker is not None and self._forker is not this_greenlet():
                rest()
            if error is not None:
                traceback.print_exception(error)
            sys.stderr.write(MESSAGE)
            sys.stderr.flush()
            os._exit(0 if error is None else 1)


FORKS = Forks()
