"""The record that is logged: a level, a message and fields, and their form as text."""

import re
from collections.abc import Mapping
from enum import IntEnum

from clusterd.records import dataclass

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_VALUE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f]+")
_LINE_END = re.compile(r"\r\n|\n|\r")


class Level(IntEnum):
    """Priorities with syslog's numbers (RFC 5424, section 6.2.1). A smaller number is more severe."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


UNLIMITED = ""
"""The `alike` of a record that is always written."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event. `message` may have several lines. A field that is None is omitted.

    `alike` says which records are equal (log/repeats.py): by default those with the same message. The message of a
    record that `is_bare` is a line of its own format, without control characters, and text adds nothing to it.
    """

    level: Level
    message: str
    fields: Mapping[str, object]
    alike: str | None = None
    is_bare: bool = False

    @property
    def kind(self) -> str:
        """What equal records share. Tracebacks are equal if their frames and the exception's class are."""
        if self.alike is not None:
            return self.alike
        frames, _, last = self.message.rstrip().rpartition("\n")
        return f"{frames}\n{last.partition(':')[0]}" if frames else self.message

    @property
    def gist(self) -> str:
        """The record in a few words, for the report that equal ones were left out."""
        if self.alike and not self.is_bare:
            return self.alike if self.alike.startswith(self.message) else f"{self.message} {self.alike}"
        first, _, rest = self.message.rstrip().partition("\n")
        return f"{first}: {rest.rpartition(chr(10))[2]}" if rest else first

    def pairs(self) -> list[tuple[str, str]]:
        """Return the fields that are set, as text."""
        return [(name, value_text(value)) for name, value in self.fields.items() if value is not None]

    def lines(self) -> list[str]:
        """Return the lines of the text. The first line ends with the fields as key=value.

        Control characters are escaped: a request path in the log must not control the operator's terminal.
        """
        if self.is_bare:
            return [self.message]
        first, *others = _LINE_END.split(self.message.rstrip("\r\n"))
        pairs = [f"{name}={quoted(value)}" for name, value in self.pairs()]
        return [escaped(line) for line in (" ".join([first, *pairs]), *others)]


def value_text(value: object) -> str:
    """Return a field's value as text: seconds with milliseconds, booleans as in the configuration."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    try:
        return str(value)
    except Exception:  # An application's exception may fail to print itself. The record is still written.
        return f"<unprintable {type(value).__name__}>"


def quoted(value: str) -> str:
    """Return a value for a key=value pair, quoted if it contains spaces or special characters."""
    if _PLAIN_VALUE.fullmatch(value):
        return value
    return '"' + escaped(value.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def escaped(text: str) -> str:
    """Return the text on one line, with the characters escaped that control a terminal. A tab stays."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return {0x0A: "\\n", 0x0D: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
