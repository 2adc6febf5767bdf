"""Ends a process that the application has forked from a worker when it comes back to the engine.

Such a process is a copy of the worker, with every connection of it. If it went on, it would answer requests that the
worker answers as well.
"""

import os
import sys
import traceback

MESSAGE = (
    "clusterd: a process that the application has forked came back from its call, and ends: it is no worker. "
    "What it is to do has to end with os._exit()\n"
)


class Forks:
    """Knows whether this process is one."""

    __slots__ = ("_is_fork",)

    def __init__(self) -> None:
        self._is_fork = False
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._is_fork = True

    def serve(self) -> None:
        """Take this process for a worker, although it was forked from a template."""
        self._is_fork = False

    def end_if_fork(self, error: BaseException | None = None) -> None:
        """End the process if the application has forked it from a worker. `error` is what its call has raised."""
        if self._is_fork:
            if error is not None:
                traceback.print_exception(error)
            sys.stderr.write(MESSAGE)
            sys.stderr.flush()
            os._exit(0 if error is None else 1)


FORKS = Forks()
