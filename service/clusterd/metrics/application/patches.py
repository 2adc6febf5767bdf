"""Makes the application's prometheus_client keep its values in shared memory, and show those of all processes.

It works for all versions from 0.16 on (tests/process/test_application_metrics.py). What is replaced is the class that
prometheus_client itself exchanges for its mode of several processes, and the collecting of the values.
"""

import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from clusterd.log import Logger
from clusterd.metrics.application.here import Here
from clusterd.metrics.application.hook import AfterImport, after_import
from clusterd.metrics.application.metric_objects import KINDS, hide, is_shared, observed, samples_of_functions
from clusterd.metrics.application.registries import Registries
from clusterd.metrics.application.values import value_class
from clusterd.metrics.application.view import View

_PACKAGE = "prometheus_client"
_REMOVING = ("remove", "remove_by_labels", "clear")
"""Methods that end metrics with some labels, in the versions that have them."""


class _Moment:
    """What one pass over a registry shows. Read once, when the first metric is asked for."""

    def __init__(self, here: Here) -> None:
        self._here = here

    @functools.cached_property
    def view(self) -> View:
        return View(self._here.read())


_moment: ContextVar[_Moment | None] = ContextVar("clusterd_metrics", default=None)
"""The pass that is under way."""


class Patches:
    """Applies the changes to each module of prometheus_client when it is imported."""

    def __init__(self, here: Here, registries: Registries, log: Logger) -> None:
        self._here = here
        self._registries = registries
        self._log = log

    def install(self) -> None:
        """Have them applied."""
        steps = {
            f"{_PACKAGE}.values": self._values,
            f"{_PACKAGE}.registry": self._registry,
            f"{_PACKAGE}.metrics": self._metrics,
            f"{_PACKAGE}.multiprocess": self._multiprocess,
        }
        after_import({name: self._guarded(step) for name, step in steps.items()})

    def _guarded(self, step: AfterImport) -> AfterImport:
        """Leave a version that is not as expected as it is, instead of failing the application's import."""

        def apply(module: Any) -> None:
            try:
                step(module)
            except Exception as error:
                what = f"clusterd cannot use {module.__name__} of this version for the application's metrics"
                self._log.warning(f"{what}: {error!r}")

        return apply

    def _view(self) -> View:
        moment = _moment.get()
        return (moment or _Moment(self._here)).view

    def _values(self, module: Any) -> None:
        module.ValueClass = value_class(self._here.memory)

    def _registry(self, module: Any) -> None:
        registries, here = self._registries, self._here
        registries.metric_family = module.Metric
        registries.note(module.REGISTRY)
        kind = module.CollectorRegistry
        initialise = kind.__init__

        @functools.wraps(initialise)
        def init(self: Any, *arguments: Any, **named: Any) -> None:
            initialise(self, *arguments, **named)
            registries.note(self)

        def collects(original: Callable[[Any], Any]) -> Callable[[Any], Iterator[Any]]:
            @functools.wraps(original)
            def collect(self: Any) -> Iterator[Any]:
                moment = _Moment(here)
                yield from _within(moment, iter(original(self)))
                if self is module.REGISTRY:
                    yield from registries.of_others(moment.view, here.memory.metrics)

            return collect

        kind.__init__ = init
        kind.collect = collects(kind.collect)
        module.RestrictedRegistry.collect = collects(module.RestrictedRegistry.collect)

    def _metrics(self, module: Any) -> None:
        kinds = self._registries.kinds = tuple(getattr(module, name) for name in KINDS)
        base, view = module.MetricWrapperBase, self._view
        original = base.collect

        @functools.wraps(original)
        def collect(self: Any) -> Any:
            if not is_shared(self, kinds):
                return original(self)
            family = self._get_metric()
            for sample in (*view().samples(family.name, family.type), *samples_of_functions(self)):
                family.add_sample(*sample)
            return [family]

        base.collect = collect
        for name in _REMOVING:
            if hasattr(base, name):
                setattr(base, name, _hiding(getattr(base, name)))
        module.Gauge.set_function = _hiding_all(module.Gauge.set_function)

    def _multiprocess(self, module: Any) -> None:
        registries, view = self._registries, self._view

        def init(self: Any, registry: Any, path: str | None = None) -> None:
            # There need not be a directory, because nothing is written into it.
            self._path = path
            if registry:
                registry.register(self)

        def collect(_: Any) -> Iterator[Any]:
            for shape in view().metrics():
                yield registries.family(shape.family, shape.help, shape.kind, view())

        registries.collector_of_all = module.MultiProcessCollector
        module.MultiProcessCollector.__init__ = init
        module.MultiProcessCollector.collect = collect


def _within(moment: _Moment, families: Iterator[Any]) -> Iterator[Any]:
    """Yield them, each collected while the pass is the one under way. Others may run in between."""
    while True:
        token = _moment.set(moment)
        try:
            family = next(families, None)
        finally:
            _moment.reset(token)
        if family is None:
            return
        yield family


def _hiding(remove: Callable[..., Any]) -> Callable[..., Any]:
    """Have the gauges that are removed shown no more. Counters stay: what was counted is counted."""

    @functools.wraps(remove)
    def removing(self: Any, *arguments: Any, **named: Any) -> Any:
        before = observed(self) if self._labelnames else []
        try:
            return remove(self, *arguments, **named)
        finally:
            left = {id(each) for each in observed(self)} if before else set()
            for each in before:
                if id(each) not in left:
                    hide(each)

    return removing


def _hiding_all(set_function: Callable[..., Any]) -> Callable[..., Any]:
    """Have the number of a gauge shown no more, once a function has its value."""

    @functools.wraps(set_function)
    def setting(self: Any, function: Callable[[], float]) -> None:
        set_function(self, function)
        hide(self)

    return setting
