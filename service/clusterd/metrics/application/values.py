"""The class that takes the place of prometheus_client's own for the value of a series (`prometheus_client.values`)."""

from collections.abc import Callable, Sequence
from typing import Any

from clusterd.metrics.application.memory import Memory, Place
from clusterd.metrics.regions.region import HIDDEN, SET, UNSET
from clusterd.metrics.regions.series import GAUGE, Shape


class Value:
    """A number in shared memory. All that prometheus_client, from 0.16 on, calls of a value."""

    __slots__ = ("_cells", "_index", "_lock")

    def __init__(self, place: Place) -> None:
        self._cells = place.cells
        self._index = place.index
        self._lock = place.lock

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            self._cells[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002 - gauges have one
        """Set the value (`Counter.reset`)."""
        with self._lock:
            self._cells[self._index] = value

    def get(self) -> float:
        """Return the value of this process."""
        return self._cells[self._index]

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing: exemplars are not kept, as in prometheus_client's own mode for several processes."""

    def get_exemplar(self) -> None:
        """Return None."""


class GaugeValue(Value):
    """The value of a gauge, of which it matters whether this process has set it, and for one mode when."""

    __slots__ = ()

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            self._cells[self._index] += amount
            self._cells[self._index + 1] = SET

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the value."""
        with self._lock:
            self._cells[self._index] = value
            self._cells[self._index + 1] = timestamp or SET

    def hide(self) -> None:
        """Have it shown no more, until a gauge with these labels is made again."""
        with self._lock:
            self._cells[self._index + 1] = HIDDEN

    def show(self) -> None:
        """Have it shown again, as if it were new."""
        with self._lock:
            if self._cells[self._index + 1] == HIDDEN:
                self._cells[self._index], self._cells[self._index + 1] = 0.0, UNSET


def value_class(memory: Memory) -> Callable[..., Value]:
    """Return what prometheus_client calls for a new value, in place of a class of its own."""

    def make(
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> Value:
        shape = Shape(typ, metric_name, name, tuple(labelnames), str(help_text), multiprocess_mode)
        place = memory.place(shape, tuple(labelvalues))
        if typ != GAUGE:
            return Value(place)
        gauge = GaugeValue(place)
        gauge.show()
        return gauge

    make._multiprocess = True  # type: ignore[attr-defined]  # noqa: SLF001 - as the classes that it replaces have it
    return make
