"""Where the application's values of this process are, and the metrics of all processes as seen from it.

One in a process, because the library that it stands behind is one in a process too.
"""

import os

from clusterd.metrics.application.memory import Memory
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.reading import ArenaReader, Snapshot
from clusterd.runtime import originals


class Here:
    """Made in a template before the application is imported, and inherited by all that is forked from it."""

    def __init__(self, arena: Arena, most_series: int) -> None:
        self._arena = arena
        self._most_series = most_series
        self._row: int | None = None
        """The row of this worker. None in a template."""
        self._is_workers_child = False
        """Whether the application has forked this process from a worker, whose region is not for it to write."""
        self._memory: Memory | None = None
        self._reader: ArenaReader | None = None
        self._reading = originals.Lock()
        os.register_at_fork(after_in_child=self._forked)

    @property
    def memory(self) -> Memory:
        """The memory for values. It is made when the application imports prometheus_client. Raises OSError."""
        if self._memory is None:
            if self._row is None or self._is_workers_child:
                self._memory = Memory.of_its_own(self._most_series)
            else:
                offset = self._arena.offset_of_row(self._row)
                self._memory = Memory(self._arena.descriptor, offset, self._most_series)
        return self._memory

    @property
    def template_values(self) -> int | None:
        """The descriptor of what the import has counted. None if the application has no metrics."""
        return None if self._memory is None else self._memory.descriptor

    def enter(self, row: int) -> None:
        """Begin to be the worker that holds a row. To be called in a new process."""
        self._row = row
        if self._memory is not None:
            self._memory.enter(self._arena.descriptor, self._arena.offset_of_row(row))

    def _forked(self) -> None:
        # Another thread may have held it, and may have read half of what is new.
        self._reading, self._reader = originals.Lock(), None
        # A template forks workers and copies of itself, which still have no code of the application to run.
        if self._row is not None:
            self._is_workers_child = True
            if self._memory is not None:
                self._memory.leave()

    def read(self) -> Snapshot:
        """Return what all processes have counted."""
        with self._reading:
            if self._reader is None:
                self._reader = ArenaReader(self._arena)
            return self._reader.read()
