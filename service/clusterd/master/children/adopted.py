"""Watches over the processes that this master has not started: it is not their parent, and cannot wait for them.

An earlier master has started them, and they are children of the process above it. Those that an adopted template forks
are that template's children, and it reports their status. The status of all others goes to the process above.
"""

import asyncio
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from clusterd.master.children.child import Child
from clusterd.metrics.kernel.procfs import identity

RETRY_SECONDS = 0.25
REPORT_SECONDS = 1.0
"""How long the master waits for the report of a template on a process that is dead."""


class Adopted:
    """`on_end` is called once for each process, with its wait status and its CPU seconds as far as they are known."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_end: Callable[[Child, int | None, float | None], None]
    ) -> None:
        self._loop = loop
        self._on_end = on_end
        self._watched: dict[int, tuple[Child, int]] = {}
        """By serial, with the pidfd."""
        self._unreported: dict[int, asyncio.TimerHandle] = {}
        """Dead children of adopted templates, by serial, until these report on them."""

    def watch(self, child: Child) -> None:
        """Wait for the end of a process, which is known by its pid and the time of its start."""
        assert child.pid is not None
        try:
            descriptor = os.pidfd_open(child.pid)
        except ProcessLookupError:
            self._loop.call_soon(self._conclude, child, None, None)
            return
        except OSError:  # Descriptors have run out.
            descriptor = None
        if not _is_there(child):
            if descriptor is not None:
                os.close(descriptor)
            self._loop.call_soon(self._conclude, child, None, None)
        elif descriptor is None:
            self._loop.call_later(RETRY_SECONDS, self.watch, child)
        else:
            self._watched[child.serial] = child, descriptor
            self._loop.add_reader(descriptor, self._ended, child)

    def lives(self, child: Child) -> bool:
        """Whether a process has not ended. A pidfd is ready when it has (pidfd_open(2))."""
        watched = self._watched.get(child.serial)
        if watched is None:
            return child.serial not in self._unreported and _is_there(child)
        waiting = select.poll()
        waiting.register(watched[1], select.POLLIN)
        return not waiting.poll(0)

    def signal(self, child: Child, number: int) -> None:
        """Send a signal to a process, if it lives."""
        watched = self._watched.get(child.serial)
        with suppress(ProcessLookupError):
            if watched is not None:
                signal.pidfd_send_signal(watched[1], number)
            elif child.pid is not None and _is_there(child):  # There is no descriptor for it at the moment.
                os.kill(child.pid, number)

    def reported(self, child: Child, status: int | None, cpu_seconds: float) -> None:
        """The template of a process has reaped it."""
        self._forget(child)
        self._conclude(child, status, cpu_seconds)

    def _ended(self, child: Child) -> None:
        self._forget(child)
        if child.is_reaped_by_template:
            self._unreported[child.serial] = self._loop.call_later(REPORT_SECONDS, self._conclude, child, None, None)
        else:
            self._conclude(child, None, None)

    def _conclude(self, child: Child, status: int | None, cpu_seconds: float | None) -> None:
        if (timer := self._unreported.pop(child.serial, None)) is not None:
            timer.cancel()
        self._on_end(child, status, cpu_seconds)

    def _forget(self, child: Child) -> None:
        watched = self._watched.pop(child.serial, None)
        if watched is not None:
            self._loop.remove_reader(watched[1])
            os.close(watched[1])


def _is_there(child: Child) -> bool:
    found = None if child.pid is None else identity(child.pid)
    return found is not None and found.started == child.started
