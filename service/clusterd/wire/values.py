"""What an application may say in a message: looked at where it is said, so that the mistake has the right traceback."""

import json
import re
from dataclasses import dataclass
from typing import Any

from clusterd.wire.messages import VALUE_BYTES

MOST_NESTED = 100
"""Lists and objects in each other: the other side's parser has a limit too, and is to be nowhere near it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a value may be: as JSON, and in lists and objects in each other."""

    size: int
    depth: int


SAID = Bounds(VALUE_BYTES, MOST_NESTED)
"""By an application."""
RELAYED = Bounds(VALUE_BYTES + 1024, MOST_NESTED + 4)
"""What an application has said, with what the master has written around it (`wire/hooks.py`)."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


def encoded(value: Any, bounds: Bounds = SAID) -> str:
    """`value` as JSON. Raises TypeError for what JSON has no words for, and ValueError for what is too large."""
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ValueError(f"a message is nested more than {bounds.depth} deep") from None
    if len(text) > bounds.size:
        raise ValueError(f"a message of {len(text)} bytes as JSON; at most {bounds.size} are possible")
    if _depth(text) > bounds.depth:
        raise ValueError(f"a message is nested {_depth(text)} deep; at most {bounds.depth} are possible")
    return text


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return 0  # nearly always: nobody need look closer
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += (bracket[1] is not None) - (bracket[2] is not None)
        deepest = max(deepest, depth)
    return deepest
