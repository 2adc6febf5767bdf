"""The format of the access log: the names of the formats and their fields, and the syntax of a format string."""

import re
from typing import NamedTuple

FIELDS = (
    "time",
    "clf_time",
    "peer",
    "user",
    "method",
    "target",
    "protocol",
    "status",
    "bytes",
    "duration",
    "queue",
    "host",
    "referer",
    "user_agent",
    "request_id",
    "traceparent",
    "worker",
    "reason",
)
"""What can be logged of a request. docs/logging.md describes each."""

_COMMON = '{peer} - {user} [{clf_time}] "{method} {target} {protocol}" {status} {bytes}'
AS_FIELDS, AS_JSON = "fields", "json"
FORMATS = {
    AS_FIELDS: "",
    "common": _COMMON,
    "combined": _COMMON + ' "{referer}" "{user_agent}"',
    AS_JSON: "",
}
"""The format string of each format that has a name. Empty for those that are not made of one."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class MalformedFormat(ValueError):
    """The text is no format. The message says what to write."""


class Part(NamedTuple):
    """A text as it is, or if `is_field` the name of a field."""

    text: str
    is_field: bool


def parse_format(written: str) -> list[Part]:
    """Return the parts of a format string, or of a format that has a name. Raises MalformedFormat.

    `{{` and `}}` stand for braces.
    """
    if written in FORMATS:
        written = FORMATS[written]
    elif "{" not in written:
        raise MalformedFormat(f"{written} is no name of a format, and has no field like {{method}}")
    parts, end = [], 0
    for match in _PART.finditer(written):
        parts.append(Part(written[end : match.start()], is_field=False))
        end = match.end()
        if match[0] in ("{{", "}}"):
            parts.append(Part(match[0][0], is_field=False))
        elif match[1] is None:
            raise MalformedFormat("a brace that is text is written twice: {{ or }}")
        elif match[1] not in FIELDS:
            raise MalformedFormat(f"there is no field {{{match[1]}}}; there are {', '.join(FIELDS)}")
        else:
            parts.append(Part(match[1], is_field=True))
    parts.append(Part(written[end:], is_field=False))
    return [part for part in parts if part.text]
