"""What is logged: a level, a message and fields, and how these become text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_VALUE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f]+")
_LINE_END = re.compile(r"\r\n|\n|\r")


class Level(IntEnum):
    """Priorities as syslog numbers them (RFC 5424, section 6.2.1): the smaller, the worse."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened. `message` may have several lines; a field that is None is left out."""

    level: Level
    message: str
    fields: Mapping[str, object]

    def pairs(self) -> list[tuple[str, str]]:
        """The fields that are set, as text."""
        return [(name, value_text(value)) for name, value in self.fields.items() if value is not None]

    def lines(self) -> list[str]:
        """The text: the first line ends with the fields as key=value, the others stand as they are.

        Control characters are escaped, for a request path in a log must not drive the operator's terminal.
        """
        first, *others = _LINE_END.split(self.message.rstrip("\r\n"))
        pairs = [f"{name}={quoted(value)}" for name, value in self.pairs()]
        return [escaped(line) for line in (" ".join([first, *pairs]), *others)]


def value_text(value: object) -> str:
    """A field's value as text: seconds to the millisecond, booleans as in the configuration."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    try:
        return str(value)
    except Exception:  # An application's exception may fail to print itself; the record matters more.
        return f"<unprintable {type(value).__name__}>"


def quoted(value: str) -> str:
    """A value for a key=value pair, quoted when it would not stand for itself."""
    if _PLAIN_VALUE.fullmatch(value):
        return value
    return '"' + escaped(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def escaped(text: str) -> str:
    """The text on one line, without a character that a terminal would obey (a tab stays)."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return {0x0A: "\\n", 0x0D: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
