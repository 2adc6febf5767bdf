"""What an application may say in a message: looked at where it is said, so that the mistake has the right traceback."""

import json
import re
from typing import Any

from clusterd.wire.messages import VALUE_BYTES

MOST_NESTED = 100
"""Lists and objects in each other: the other side's parser has a limit too, and is to be nowhere near it."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


def encoded(value: Any) -> str:
    """`value` as JSON. Raises TypeError for what JSON has no words for, and ValueError for what is too large."""
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ValueError(f"a message is nested more than {MOST_NESTED} deep") from None
    if len(text) > VALUE_BYTES:
        raise ValueError(f"a message of {len(text)} bytes as JSON; at most {VALUE_BYTES} are possible")
    if _depth(text) > MOST_NESTED:
        raise ValueError(f"a message is nested {_depth(text)} deep; at most {MOST_NESTED} are possible")
    return text


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return 0  # nearly always: nobody need look closer
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += (bracket[1] is not None) - (bracket[2] is not None)
        deepest = max(deepest, depth)
    return deepest
