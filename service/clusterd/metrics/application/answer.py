"""What only a process itself can tell of its metrics, as it answers the master that asks for it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

MOST_BYTES: Final = 4 << 20
"""The longest answer."""
_KINDS: Final = frozenset(("counter", "gauge", "summary", "histogram", "gaugehistogram", "unknown", "info", "stateset"))


@dataclass(frozen=True, slots=True)
class ToldSample:
    """One sample of an answer."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float
    timestamp: float | None


@dataclass(frozen=True, slots=True)
class ToldMetric:
    """One metric of an answer, with its samples in the order in which they are to be shown."""

    name: str
    kind: str
    help: str
    samples: tuple[ToldSample, ...]


def encode(families: Iterable[Any], most_samples: int) -> tuple[bytes, int]:
    """Return the answer for the families of prometheus_client, and how many samples were left out beyond the limit.

    A family of a collector of the application that no page could show is left out.
    """
    left, dropped = most_samples, 0
    document = []
    for family in families:
        try:
            samples = _samples(family)
        except (AttributeError, TypeError, ValueError, OverflowError):
            continue
        dropped += max(0, len(samples) - left)
        del samples[left:]
        left -= len(samples)
        if samples:
            document.append([str(family.name), str(family.type), str(family.documentation), samples])
    return json.dumps(document).encode(), dropped


def _samples(family: Any) -> list[list[Any]]:
    return [
        [str(each.name), {str(name): str(value) for name, value in each.labels.items()}, *_numbers(each)]
        for each in family.samples
    ]


def _numbers(sample: Any) -> tuple[float, float | None]:
    timestamp = sample.timestamp
    return float(sample.value), None if timestamp is None or not isfinite(float(timestamp)) else float(timestamp)


def decode(answer: bytes) -> list[ToldMetric]:
    """Return the metrics of an answer. Raises ValueError for any other bytes."""
    try:
        document = json.loads(answer)
        return [_metric(*family) for family in document]
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an answer: {error}") from error


def _metric(name: Any, kind: Any, text: Any, samples: Any) -> ToldMetric:
    if not isinstance(name, str) or kind not in _KINDS or not isinstance(text, str):
        raise ValueError("not a metric")
    return ToldMetric(name, kind, text, tuple(_sample(*sample) for sample in samples))


def _sample(name: Any, labels: Any, value: Any, timestamp: Any) -> ToldSample:
    pairs = tuple(sorted(labels.items()))
    if not isinstance(name, str) or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise ValueError("not a sample")
    return ToldSample(name, pairs, float(value), None if timestamp is None else float(timestamp))
