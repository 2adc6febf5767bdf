"""Checks the values that an application sends, at the call that sends them, so that the traceback shows that call."""

import json
import re
from typing import Any

from clusterd.records import dataclass
from clusterd.wire.messages import VALUE_BYTES, Ack, AppMessage, ProtocolError

MOST_NESTED = 100
"""The most lists and objects inside each other. It is far below the limit of the other side's parser."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest size of a value as JSON, and how deep its lists and objects may be nested."""

    size: int
    depth: int


SAID = Bounds(VALUE_BYTES, MOST_NESTED)
"""The bounds of a value that an application sends."""
RELAYED = Bounds(VALUE_BYTES + 1024, MOST_NESTED + 4)
"""The bounds of such a value together with the envelope that the master adds (`wire/hooks.py`)."""


def checked(message: AppMessage | Ack) -> AppMessage | Ack:
    """Return a message of a process that is not trusted. Raises ProtocolError for a value that no `send` allows.

    Such a value could not be passed on to another process.
    """
    if isinstance(message, AppMessage):
        try:
            encoded(message.value, RELAYED)
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a value that cannot be sent: {error}") from error
    return message


_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')


def encoded(value: Any, bounds: Bounds = SAID) -> str:
    """Return `value` as JSON. Raises TypeError if JSON cannot express it, and ValueError if it is too large."""
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
        return 0  # the usual case: it cannot be nested too deep
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += (bracket[1] is not None) - (bracket[2] is not None)
        deepest = max(deepest, depth)
    return deepest
