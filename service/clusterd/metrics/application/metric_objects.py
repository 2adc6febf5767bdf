"""What clusterd reads of prometheus_client's metrics. They are the application's, so their types are unknown here."""

# ruff: noqa: SLF001 - what is read is in no version's public interface, and the same in all versions

from collections.abc import Iterator
from typing import Any

from clusterd.metrics.application.values import GaugeValue, Value

KINDS = ("Counter", "Gauge", "Summary", "Histogram")
"""The classes of metrics whose values are numbers, in `prometheus_client.metrics`."""
_FUNCTION = "_child_samples"
"""What `Gauge.set_function` replaces in a metric."""


def observed(metric: Any) -> list[Any]:
    """Return the metrics that have values: the metric itself, or one for each combination of its labels."""
    if metric._labelnames and not metric._labelvalues:
        with metric._lock:
            return list(metric._metrics.values())
    return [metric]


def has_function(metric: Any) -> bool:
    """Whether a function of the application returns the metric's value."""
    return _FUNCTION in vars(metric)


def is_shared(metric: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether the values of a metric are in shared memory, except for those with a function."""
    if not isinstance(metric, kinds) or metric._labelvalues:
        return False
    if all(getattr(type(metric), _FUNCTION) is not getattr(kind, _FUNCTION) for kind in kinds):
        return False  # A class of the application, with samples of its own.
    return all(isinstance(_value(each), Value) for each in observed(metric))


def _value(metric: Any) -> Any:
    return next((found for name in ("_value", "_count", "_sum") if (found := getattr(metric, name, None))), None)


def hide(metric: Any) -> None:
    """Have a gauge shown no more."""
    value = _value(metric)
    if isinstance(value, GaugeValue):
        value.hide()


def samples_of_functions(metric: Any) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of each sample whose value a function of the application returns."""
    for each in observed(metric):
        if has_function(each):
            labels = dict(zip(metric._labelnames, each._labelvalues, strict=False))
            for suffix, more, value, *_ in each._samples():
                yield metric._name + suffix, {**labels, **more}, value
