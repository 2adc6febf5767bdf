"""The application's metrics, as far as one process has to do with them."""

from clusterd.log import Logger
from clusterd.metrics.application.answer import encode
from clusterd.metrics.application.here import Here
from clusterd.metrics.application.patches import Patches
from clusterd.metrics.application.registries import Registries
from clusterd.metrics.regions.arena import Arena


class Instrumentation:
    """Made in a template before the application is imported, and inherited by its workers."""

    def __init__(self, arena: Arena, most_series: int, log: Logger) -> None:
        self._most_series = most_series
        self._here = Here(arena, most_series)
        self._registries = Registries()
        self._dropped = 0
        Patches(self._here, self._registries, log).install()

    @property
    def template_values(self) -> int | None:
        """The descriptor of what the import has counted. None if the application has no metrics."""
        return self._here.template_values

    def enter(self, row: int) -> None:
        """Begin to be the worker that holds a row. To be called in a new process, before it runs anything else."""
        self._here.enter(row)

    def answer(self) -> bytes | None:
        """Return what only this process can tell. None if the application has no metrics.

        Calls the application: its collectors, and the functions of its gauges.
        """
        if self._here.template_values is None:
            return None
        answer, dropped = encode(self._registries.only_here(), self._most_series)
        if dropped > self._dropped:
            self._here.memory.note_dropped(dropped - self._dropped)
            self._dropped = dropped
        return answer
