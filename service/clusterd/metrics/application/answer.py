"""What only a process itself can tell of its metrics, as it answers the master that asks for it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from clusterd.metrics.regions.series import KINDS

MOST_BYTES: Final = 4 << 20
"""The longest answer."""


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
    """Return the answer for the families of prometheus_client, and how many samples were left out beyond the limits.

    A family of a collector of the application that no page could show is left out.
    """
    left, dropped = most_samples, 0
    document: list[bytes] = []
    room = MOST_BYTES - len(b"[]")
    for family in families:
        try:
            name, kind, text = str(family.name), str(family.type), str(family.documentation)
            samples = _samples(family)
        except (AttributeError, TypeError, ValueError, OverflowError):
            continue
        if kind not in KINDS:
            continue
        dropped += max(0, len(samples) - left)
        del samples[left:]
        encoded = json.dumps([name, kind, text, samples]).encode()
        if len(encoded) + len(b",") > room:
            dropped += len(samples)
        elif samples:
            left -= len(samples)
            room -= len(encoded) + len(b",")
            document.append(encoded)
    return b"[%s]" % b",".join(document), dropped


def _samples(family: Any) -> list[list[Any]]:
    return [
        [str(each.name), {str(name): str(value) for name, value in each.labels.items()}, *_numbers(each)]
        for each in family.samples
    ]


def _numbers(sample: Any) -> tuple[float, float | None]:
    moment = None if sample.timestamp is None else float(sample.timestamp)
    return float(sample.value), None if moment is None or not _can_be_shown(moment) else moment


def _can_be_shown(moment: float) -> bool:
    return isfinite(moment * 1000)  # Prometheus's text format has milliseconds.


def decode(answer: bytes) -> list[ToldMetric]:
    """Return the metrics of an answer. Raises ValueError for any other bytes."""
    try:
        document = json.loads(answer)
        return [_metric(*family) for family in document]
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an answer: {error}") from error


def _metric(name: Any, kind: Any, text: Any, samples: Any) -> ToldMetric:
    if not isinstance(name, str) or kind not in KINDS or not isinstance(text, str):
        raise ValueError("not a metric")
    return ToldMetric(name, kind, text, tuple(_sample(*sample) for sample in samples))


def _sample(name: Any, labels: Any, value: Any, timestamp: Any) -> ToldSample:
    pairs = tuple(sorted(labels.items()))
    if not isinstance(name, str) or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise ValueError("not a sample")
    moment = None if timestamp is None else float(timestamp)
    if moment is not None and not _can_be_shown(moment):
        raise ValueError("not a time")
    return ToldSample(name, pairs, float(value), moment)
