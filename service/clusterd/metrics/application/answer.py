"""What only a process itself can tell of its metrics, as it answers the master that asks for it.

An answer is lines of JSON: one for a metric, `[name, kind, help]`, and then one for each of its samples,
`[name, labels, value, timestamp]`. So the master reads a long answer piece by piece.
"""

import json
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any, Final

from clusterd.metrics.regions.series import KINDS, MOST_LABELS
from clusterd.records import dataclass

MOST_BYTES: Final = 4 << 20
"""The longest answer."""
MOST_LINE_BYTES: Final = 64 << 10
"""A metric is left out whose help, or one of whose samples, is longer: the master parses a line at once."""


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
    left, room, dropped = most_samples, MOST_BYTES, 0
    document: list[bytes] = []
    for family in families:
        try:
            name, kind, text = str(family.name), str(family.type), str(family.documentation)
            samples = _samples(family)
        except (AttributeError, TypeError, ValueError, OverflowError):
            continue
        if kind not in KINDS or any(len(labels) > MOST_LABELS for _, labels, *_ in samples):
            continue
        dropped += max(0, len(samples) - left)
        del samples[left:]
        encoded = b"".join(json.dumps(line).encode() + b"\n" for line in ([name, kind, text], *samples))
        if len(encoded) > room or any(len(line) > MOST_LINE_BYTES for line in encoded.splitlines()):
            dropped += len(samples)
        elif samples:
            left -= len(samples)
            room -= len(encoded)
            document.append(encoded)
    return b"".join(document), dropped


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


def decode(answer: bytes, most_samples: int) -> Iterator[ToldMetric | None]:
    """Yield the metrics of an answer, and None after each other piece of the work. Raises ValueError.

    An answer with more samples, or with metrics that have none, was not made by `encode`.
    """
    head: tuple[str, str, str] | None = None
    samples: list[ToldSample] = []
    left = most_samples
    for line in answer.splitlines():
        match _loaded(line):
            case [str(name), str(kind), str(text)] if kind in KINDS and (head is None or samples):
                if head is not None:
                    yield ToldMetric(*head, tuple(samples))
                head, samples = (name, kind, text), []
            case [str(name), dict(labels), int() | float() as value, int() | float() | None as moment] if head and left:
                left -= 1
                samples.append(_sample(name, labels, value, moment))
                yield None
            case _:
                raise ValueError("neither a metric nor a sample")
    if head is not None:
        yield ToldMetric(*head, tuple(samples))


def _loaded(line: bytes) -> Any:
    if len(line) > MOST_LINE_BYTES:
        raise ValueError(f"a line of {len(line)} bytes")
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("not an answer: lists in lists") from error


def _sample(name: str, labels: dict[str, Any], value: float, moment: float | None) -> ToldSample:
    if len(labels) > MOST_LABELS or not all(isinstance(text, str) for text in labels.values()):
        raise ValueError("labels that are no text, or too many")
    try:
        if moment is None or _can_be_shown(moment):
            return ToldSample(name, tuple(sorted(labels.items())), float(value), moment)
    except OverflowError:
        pass
    raise ValueError("not a number that a page can show")
