"""The lines of the access log: each format is compiled once, to a function that makes the line of a request."""

import re
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from time import gmtime
from time import time as wall_clock
from typing import Final

from clusterd.config.settings.access_format import AS_JSON, FIELDS, parse_format
from clusterd.http.access.answered import Answered

Line = Callable[[Answered], str]

_find_unsafe: Final = re.compile(r"[^ !#-\[\]-~]").search
_replace_unsafe: Final = re.compile(r"[^ !#-\[\]-~]").sub
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_HEADER_FIELDS = {
    "host": "host",
    "referer": "referer",
    "user_agent": "user-agent",
    "traceparent": "traceparent",
}
_TEXTS = {
    "peer": "a.peer",
    "user": "a.user()",
    "method": "a.method",
    "target": "a.target",
    "protocol": "a.protocol",
    "request_id": "a.request_id",
    "reason": "a.reason",
    "worker": "worker",
    **{name: f"a.field({header!r})" for name, header in _HEADER_FIELDS.items()},
}
"""The expression for each field that is text. `a` is an Answered."""
_OTHERS = {
    "time": ("%s", "now.iso()"),
    "clf_time": ("%s", "now.clf()"),
    "status": ("%d", "a.status"),
    "bytes": ("%d", "a.bytes"),
    "duration": ("%.6f", "a.duration"),
}
"""The placeholder and the expression for each field that needs no escapes."""


def escaped(text: str) -> str:
    r"""Return a text that cannot end its field or its line: `"`, `\` and all but printable ASCII become \xNN.

    An empty text becomes a hyphen. Text of a request has one character for each byte.
    """
    if not text:
        return "-"
    return text if _find_unsafe(text) is None else _replace_unsafe(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode("latin-1", "backslashreplace"))


def queue_text(seconds: float) -> str:
    """Return the time in the queue, or a hyphen."""
    return "-" if seconds < 0 else f"{seconds:.6f}"


class _Now:
    """The time, whose text changes once a second. In UTC, as all of the log."""

    __slots__ = ("_clf", "_clock", "_iso", "_second")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._second = -1
        self._clf = self._iso = ""

    def _refresh(self, second: int) -> None:
        self._second = second
        year, month, day, hour, minute, of_minute = gmtime(second)[:6]
        self._clf = f"{day:02d}/{_MONTHS[month - 1]}/{year}:{hour:02d}:{minute:02d}:{of_minute:02d} +0000"
        self._iso = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{of_minute:02d}"

    def clf(self) -> str:
        """Return it as in the Common Log Format."""
        second = int(self._clock())
        if second != self._second:
            self._refresh(second)
        return self._clf

    def iso(self) -> str:
        """Return it with milliseconds, as in the rest of the log."""
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._refresh(second)
        return f"{self._iso}.{int((now - second) * 1000):03d}Z"


def compile_lines(written: str, worker: str, clock: Callable[[], float] = wall_clock) -> Line:
    """Return the function for a format string, or for a format that has a name. Raises MalformedFormat."""
    pieces, expressions = _of_json() if written == AS_JSON else _of_text(written)
    # The parts of the format are literals here, and the names are those of this module, so that nothing is injected.
    source = f"lambda a: {''.join(pieces)!r} % ({', '.join(expressions)},)"
    names = {"q": escaped, "j": encode_basestring_ascii, "queue": queue_text, "now": _Now(clock), "worker": worker}
    made: Line = eval(source, names)
    return made


def _of_text(written: str) -> tuple[list[str], list[str]]:
    pieces, expressions = [], []
    for part in parse_format(written):
        if not part.is_field:
            pieces.append(part.text.replace("%", "%%"))
        elif part.text == "queue":
            pieces.append("%s")
            expressions.append("queue(a.queue)")
        elif part.text in _TEXTS:
            pieces.append("%s")
            expressions.append(f"q({_TEXTS[part.text]})")
        else:
            placeholder, expression = _OTHERS[part.text]
            pieces.append(placeholder)
            expressions.append(expression)
    return pieces, expressions


def _of_json() -> tuple[list[str], list[str]]:
    pieces: list[str] = []
    expressions: list[str] = []
    for name in FIELDS:
        if name == "clf_time":
            continue
        pieces.append(f'{", " if pieces else "{"}"{name}": ')
        if name == "time":
            pieces.append('"%s"')
            expressions.append("now.iso()")
        elif name == "queue":
            pieces.append("%s")
            expressions.append('"null" if a.queue < 0 else "%.6f" % a.queue')
        elif name in _TEXTS:
            pieces.append("%s")
            expressions.append(f'(j({_TEXTS[name]}) if {_TEXTS[name]} else "null")')
        else:
            placeholder, expression = _OTHERS[name]
            pieces.append(placeholder)
            expressions.append(expression)
    pieces.append("}")
    return pieces, expressions
