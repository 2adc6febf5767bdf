"""The control socket's protocol: one JSON object a line, both ways (newline-delimited JSON).

    > {"version": 1, "command": "reload"}
    < {"version": 1, "type": "progress", "text": "Reloading: generation 4, 1 of 2 workers replaced"}
    < {"version": 1, "type": "result", "succeeded": true, "text": "generation 4 serves", "data": {}}

A request is answered by any number of `progress` lines and one `result`, after which the service
closes the connection.
"""

import json
from enum import StrEnum
from typing import Any

CONTROL_VERSION = 1
LINE_BYTES = 64 * 1024


class Command(StrEnum):
    """What can be asked."""

    RELOAD = "reload"
    STATUS = "status"


class ControlError(Exception):
    """A line that is not of this protocol; the text says why."""


def request(command: Command) -> bytes:
    """The line that asks for `command`."""
    return _line({"command": command.value})


def progress(text: str) -> bytes:
    """A line that says how far the request is."""
    return _line({"type": "progress", "text": text})


def result(*, succeeded: bool, text: str, data: dict[str, Any] | None = None) -> bytes:
    """The last line of an answer."""
    return _line({"type": "result", "succeeded": succeeded, "text": text, "data": data or {}})


def parse(line: bytes) -> dict[str, Any]:
    """The object in `line`. Raises ControlError."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not a line of JSON: {error}") from error
    if not isinstance(document, dict):
        raise ControlError("not a JSON object")
    if document.get("version") != CONTROL_VERSION:
        raise ControlError(
            f"version {document.get('version')!r} of the control protocol; this side speaks {CONTROL_VERSION}"
        )
    return document


def parse_command(line: bytes) -> Command:
    """The command in a request. Raises ControlError."""
    name = parse(line).get("command")
    try:
        return Command(str(name))
    except ValueError:
        known = ", ".join(command.value for command in Command)
        raise ControlError(f"unknown command {name!r}; known are: {known}") from None


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps({"version": CONTROL_VERSION, **document}).encode() + b"\n"
