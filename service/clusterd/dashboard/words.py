"""Numbers and events as short texts for people."""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from clusterd.log.record import escaped, quoted

Say: TypeAlias = Callable[[float], str]
"""Writes a number of some kind."""

NOTHING = "-"
"""Stands for a value that is unknown or does not apply."""

_BUSY_SECONDS = 1.0
"""A handler that takes longer than this is shown."""
_UNITS = ("K", "M", "G", "T")


def count(number: float | None) -> str:
    """Write a number in at most five characters if it is large: 950, 9,500, 95k, 9.5M."""
    if number is None:
        return NOTHING
    if number < 10_000:
        return f"{number:,.0f}"
    for divisor, unit in ((1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G")):
        scaled = number / divisor
        if scaled < 999.5 or unit == "G":
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:,.0f}{unit}"
    raise AssertionError


def rate(number: float | None) -> str:
    """Write a number a second: 0, 0.4, 7.5, 120, 95k."""
    if number is None or number >= 10:
        return count(number)
    return f"{number:.1f}".removesuffix(".0")


def latency(seconds: float | None) -> str:
    """Write a short time with its unit: 0.35 ms, 12 ms, 1.2 s."""
    if seconds is None:
        return NOTHING
    value, unit = (seconds * 1000, "ms") if seconds < 0.9995 else (seconds, "s")
    return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"


def memory(number: int | None) -> str:
    """Write bytes in the units of 1024 bytes: 0M, 22M, 950M, 1.5G."""
    if number is None:
        return NOTHING
    value = number / 1024
    for unit in _UNITS[:-1]:
        if value < 1000 and unit != "K":
            return f"{value:.1f}{unit}" if unit != "M" and value < 10 else f"{value:.0f}{unit}"
        value /= 1024
    return f"{value:.1f}{_UNITS[-1]}"


def used(number: int, limit: int, unit: str) -> str:
    """Write how much of a limit is used: 4 of 16, 120M of 512M."""
    if unit == "bytes":
        return f"{memory(number)} of {memory(limit)}"
    return f"{count(number)} of {count(limit)}"


def percent(part: float | None) -> str:
    """Write a part of 1 in percent: 0%, under 0.1%, 0.3%, 42%."""
    if part is None:
        return NOTHING
    value = 100 * part
    if 0 < value < 0.05:
        return "under 0.1%"
    return f"{value:.1f}%" if 0.05 <= value < 9.95 else f"{value:.0f}%"


def duration(seconds: float | None) -> str:
    """Write the duration in its two largest units."""
    if seconds is None:
        return NOTHING
    whole = int(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{lesser}"
    return f"{seconds:.1f}s"


def plural(number: int, what: str) -> str:
    """Write a number and what it counts: 1 worker, 2 workers."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def waiting(slot: int, retry_in: float, failures: int, reason: str) -> str:
    """Say why a slot has no worker, and when the next one is tried."""
    failed = f", failed {plural(failures, 'time')}" if failures else ""
    return escaped(f"slot {slot}: next try in {duration(retry_in)}{failed}: {reason}")


def event(document: dict[str, Any]) -> str:
    """Write the fields of an event, without its number, time and name."""
    known: tuple[str, ...] = ("number", "time", "event")
    if not document.get("requests"):
        known += ("lost", "requests")  # Those of an end that has cost nothing are no news.
    shown = ((key, value) for key, value in document.items() if key not in known and value is not None)
    return escaped(" ".join(f"{key}={_field(value)}" for key, value in shown))


def _field(value: Any) -> str:
    """Write the value of a field, quoted if it contains spaces. Requests are named with their ages."""
    match value:
        case str():
            return quoted(value)
        case [{"method": _, "target": _}, *_]:
            return quoted(", ".join(f"{each['method']} {each['target']} ({duration(each['age'])})" for each in value))
    return json.dumps(value)


def hooks(document: dict[str, Any]) -> str:
    """Write the state of the hooks process in a line."""
    counts = (
        ("waiting", document["waiting"]),
        ("restarts", document["restarts"]),
        ("dropped", document["events_dropped"] + document["messages_dropped"]),
        ("cut", document["cut"]),
    )
    known = ", ".join(f"{what} {number}" for what, number in counts if number)
    if document["busy_seconds"] >= _BUSY_SECONDS:
        busy = f"busy with {document['busy_with']} for {duration(document['busy_seconds'])}"
        known = ", ".join(filter(None, (busy, known)))
    if document["failure"] is not None:
        retry = f", trying again in {duration(document['retry_seconds'])}" if document["retry_seconds"] else ""
        known = "; ".join(filter(None, (known, f"died: {document['failure']}{retry}")))
    who = f"generation {document['generation']}, pid {document['pid'] or NOTHING}"
    return escaped(f"hooks {document['module']}: {document['state']}, {who}{f'; {known}' if known else ''}")
