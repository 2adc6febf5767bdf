"""The kind of the setting `workers`: a number, or a least and a greatest number between which clusterd decides."""

import re
from collections.abc import Mapping
from typing import Any

from clusterd.config.model import JSON, WorkerRange
from clusterd.config.settings.kinds import CoreType, Kind, Parts, Refusal, duration, either, whole_number

MOST_WORKERS = 1024
SHRINK_AFTER = "30s"

_NUMBER = whole_number(1, MOST_WORKERS)
_NUMBER_OR_AUTO = either(_NUMBER, "auto")
_SHRINK_AFTER = duration("1s", "24h")
_RANGE = r"([0-9]+)-([0-9]+|auto)"


def worker_count() -> Kind:
    """A fixed number (int), auto (None), or a WorkerRange, which is a section in the file and `2-8` in a flag."""
    parts = Parts(
        {"min": _NUMBER, "max": _NUMBER_OR_AUTO, "shrink_after": _SHRINK_AFTER},
        {"shrink_after": SHRINK_AFTER},
        _joined,
    )
    schema: list[JSON] = [
        dict(_NUMBER_OR_AUTO.json_schema),
        {"type": "string", "pattern": f"^{_RANGE}$"},
        {
            "type": "object",
            "properties": {name: dict(kind.json_schema) for name, kind in parts.kinds.items()},
            "additionalProperties": False,
            "required": [name for name in parts.kinds if name not in parts.defaults],
        },
    ]
    allowed = f"a whole number from 1 to {MOST_WORKERS}, auto, or a range such as {{min: 2, max: 8}}"
    return Kind(allowed, _read, {"anyOf": schema}, frozenset({CoreType.TEXT, CoreType.NUMBER}), _write, parts)


def _read(written: str, base: str) -> int | WorkerRange | None:
    if match := re.fullmatch(_RANGE, written):
        numbers = {"min": _NUMBER.read(match[1], base), "max": _NUMBER_OR_AUTO.read(match[2], base)}
        return _joined({**numbers, "shrink_after": _SHRINK_AFTER.read(SHRINK_AFTER, base)})
    number: int | None = _NUMBER_OR_AUTO.read(written, base)
    return number


def _joined(parts: Mapping[str, Any]) -> WorkerRange:
    least, most = parts["min"], parts["max"]
    if most is not None and least > most:
        raise Refusal(f"min is {least} and max is {most}: raise max, or lower min")
    return WorkerRange(**parts)


def _write(value: Any) -> JSON:
    if not isinstance(value, WorkerRange):
        return _NUMBER_OR_AUTO.write(value)
    return {
        "min": value.min,
        "max": _NUMBER_OR_AUTO.write(value.max),
        "shrink_after": _SHRINK_AFTER.write(value.shrink_after),
    }
