"""The log as JSON: one object a line, for programs that collect the output of a container."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator

from clusterd.log.record import Level, Record, value_text
from clusterd.log.stderr import time_text
from clusterd.service_name import SERVICE

LONGEST_LINE = 32 * 1024
"""Bytes of a line, at most: a traceback that is longer loses its middle. A line cannot be split as text can."""
_CUT_TO = (24_000, 4_000, 500)
"""Characters that are left of each text of such a line: the first of these with which it is short enough."""

OWN_KEYS = frozenset({"time", "level", "service", "process", "message", "traceback"})


class JsonEncoder:
    """Writes a record as `{"time": ..., "level": ..., "service": ..., "process": ..., "message": ..., FIELDS}`.

    If the message has several lines, those after the first are in `traceback`, as one string. A field whose name is one
    of these keys has an underscore behind it.
    """

    def __init__(self, clock: Callable[[], float] = time.time, process: Callable[[], int] = os.getpid) -> None:
        self._clock = clock
        self._process = process

    def __call__(self, record: Record) -> Iterator[bytes]:
        """Yield the line of the record."""
        message, _, rest = record.message.rstrip("\r\n").partition("\n")
        document: dict[str, object] = {
            "time": time_text(self._clock()),
            "level": Level(record.level).name.lower(),
            "service": SERVICE,
            "process": self._process(),
            "message": message.rstrip("\r"),
        }
        for name, value in record.fields.items():
            if value is not None:
                document[f"{name}_" if name in OWN_KEYS else name] = _plain(value)
        if rest:
            document["traceback"] = rest
        line = _encoded(document)
        for most in _CUT_TO:
            if len(line) <= LONGEST_LINE:
                break
            line = _encoded({key: _cut(value, most) for key, value in document.items()})
        yield line


def _plain(value: object) -> object:
    if type(value) is float and math.isfinite(value):
        return round(value, 6)
    return value if type(value) in (bool, int) else value_text(value)


def _encoded(document: dict[str, object]) -> bytes:
    # ASCII only: a program that reads the log may take any other encoding for it.
    return json.dumps(document).encode() + b"\n"


def _cut(value: object, most: int) -> object:
    if not isinstance(value, str) or len(value) <= most:
        return value
    half = most // 2
    return f"{value[:half]}\n[{len(value) - 2 * half} characters are left out]\n{value[-half:]}"
