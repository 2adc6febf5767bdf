"""The lines of the application's metrics, in Prometheus's text format and in OpenMetrics.

They differ from those that prometheus_client would make in the label `worker`, and in being made quickly: what a line
begins with is made once.
"""

import re
from collections.abc import Iterable
from typing import Final

from clusterd.metrics.page.families import escaped
from clusterd.metrics.regions.series import WORKER, with_worker

_WRONG_IN_NAME: Final = re.compile(r"[^a-zA-Z0-9_:]")
_WRONG_IN_LABEL: Final = re.compile(r"[^a-zA-Z0-9_]")
_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
"""What the names of a kind's samples end with, in OpenMetrics. Those of other kinds are the metric's."""
_TEXT_KINDS: Final = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}


def metric_name(name: str) -> str:
    """Return the name with nothing in it that all versions of Prometheus do not know, as prometheus_client has it."""
    name = _WRONG_IN_NAME.sub("_", name)
    return f"_{name}" if name[:1].isdigit() or not name else name


def _label_name(name: str) -> str:
    name = _WRONG_IN_LABEL.sub("_", name)
    if name.startswith("__"):  # Prometheus's own: __name__ would be another name of the series.
        return f"exported{name}"
    return f"_{name}" if name[:1].isdigit() or not name else name


def _label_names(names: Iterable[str]) -> list[str]:
    """Return the names of the labels of one series. No two are the same: Prometheus would refuse the whole page."""
    found: dict[str, None] = {}
    for name in map(_label_name, names):
        while name in found or name == WORKER:
            name = f"exported_{name}"
        found[name] = None
    return list(found)


def line_head(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return what a line begins with: all but the number of the worker, which is the last label."""
    named = with_worker(tuple(labels), "")
    del named[WORKER]
    names = _label_names(named)
    pairs = "".join(f'{name}="{escaped(value)}",' for name, value in zip(names, named.values(), strict=True))
    return f'{metric_name(name)}{{{pairs}{WORKER}="'


def line_tail(worker: str) -> str:
    """Return what follows it."""
    return f'{worker}"}} '


def timestamp(seconds: float, *, is_open: bool) -> str:
    """Return the time of a sample."""
    return repr(seconds) if is_open else str(int(seconds * 1000))


def sample_names(name: str, kind: str) -> frozenset[str]:
    """The names that the samples of a metric may have. No other metric may use them, or that of the metric."""
    return frozenset(f"{name}{suffix}" for suffix in _SUFFIXES.get(kind, ("",)))


def header(name: str, kind: str, text: str, *, is_open: bool) -> str:
    """Return the lines before those of a metric."""
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    if is_open:
        text = text.replace('"', r"\"")
    else:
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = _TEXT_KINDS.get(kind, kind)
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
