"""The application's registries, and what is in them that only this process can tell."""

# ruff: noqa: SLF001 - as in metric_objects.py

import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from clusterd.metrics.application.metric_objects import is_shared, samples_of_functions
from clusterd.metrics.application.view import View
from clusterd.runtime import originals


class Registries:
    """Knows every registry of the process, as long as it is in use."""

    def __init__(self) -> None:
        self._all: WeakSet[Any] = WeakSet()
        self._lock = originals.Lock()
        # Another thread may have held it.
        os.register_at_fork(after_in_child=self._lock._at_fork_reinit)  # type: ignore[attr-defined]
        self.kinds: tuple[type, ...] = ()
        """The classes of metrics whose values are in shared memory."""
        self.collector_of_all: type | None = None
        """prometheus_client's collector of what several processes have counted."""
        self.metric_family: Any = None
        """The class of what a registry yields."""

    def note(self, registry: Any) -> None:
        """Note a registry."""
        with self._lock:
            self._all.add(registry)

    def _collectors(self) -> list[Any]:
        with self._lock:
            registries = list(self._all)
        found: dict[int, Any] = {}
        for registry in registries:
            with registry._lock:
                found |= {id(collector): collector for collector in registry._collector_to_names}
        return list(found.values())

    def only_here(self) -> Iterator[Any]:
        """Yield the metric families that only this process can tell.

        Info and Enum, gauges with a function, and the collectors of the application and of libraries, among them
        prometheus_client's own for process_* and python_*. A collector that raises an exception is left out.
        """
        for collector in self._collectors():
            if self.collector_of_all is not None and isinstance(collector, self.collector_of_all):
                continue
            try:
                shared = is_shared(collector, self.kinds)
                families = list(self._of_functions(collector) if shared else collector.collect())
            except BaseException:  # Also SystemExit. The application's own page raises it too, where it is seen.
                continue
            yield from families

    def _of_functions(self, metric: Any) -> Iterator[Any]:
        found = list(samples_of_functions(metric))
        if found:
            family = metric._get_metric()
            for sample in found:
                family.add_sample(*sample)
            yield family

    def of_others(self, view: View, own: frozenset[str]) -> Iterator[Any]:
        """Yield the metrics that only other processes have made, during a request. `own` are those of this process."""
        with self._lock:
            names = {name for registry in self._all for name in tuple(registry._names_to_collectors)}
        for shape in view.metrics():
            if shape.family not in names and shape.family not in own:
                yield self.family(shape.family, shape.help, shape.kind, view)

    def family(self, name: str, text: str, kind: str, view: View) -> Any:
        """Return one metric of all processes."""
        family = self.metric_family(name, text, kind)
        for sample in view.samples(name, kind):
            family.add_sample(*sample)
        return family
