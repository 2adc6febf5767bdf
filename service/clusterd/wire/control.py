"""The control socket's protocol: one JSON object a line, both ways (newline-delimited JSON).

    > {"version": 1, "command": "scale", "workers": "+1"}
    < {"version": 1, "type": "result", "succeeded": true, "text": "5 workers wanted", "data": {"workers": 5}}

A request is answered by any number of `progress` and `event` lines and one `result` line. Then the service closes the
connection. docs/control.md lists the arguments and results of each command.
"""

import json
import re
from enum import StrEnum
from signal import SIGTERM, Signals
from typing import Any

from clusterd.profiles.examination import MOST_SECONDS
from clusterd.records import dataclass

CONTROL_VERSION = 1
LINE_BYTES = 64 * 1024
"""The longest line of a request, and the most bytes that may wait for a peer that does not read."""

MOST_SLOTS = 1024
"""The largest value of the setting `workers`."""
ALL_SLOTS = 0
"""Every worker; written "all" in commands that accept it."""
HOOKS = -1
"""The hooks process; written "hooks" in commands that accept it."""
CONFIGURED_WORKERS = 0
"""The number of workers of the configuration; written "auto"."""


SECONDS = 10
"""How long a worker is examined, if the request does not say it."""


class Command(StrEnum):
    """The commands."""

    STATUS = "status"
    TOP = "top"
    RELOAD = "reload"
    UPGRADE = "upgrade"
    RESTART = "restart"
    SCALE = "scale"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STOP = "stop"
    KILL = "kill"
    STACKS = "stacks"
    PROFILE = "profile"
    MEMORY = "memory"
    EVENTS = "events"
    CONFIG = "config"
    LOG_LEVEL = "log-level"
    LOG_ACCESS = "log-access"
    SEND = "send"
    DEBUG = "debug"


class ControlError(ValueError):
    """A line does not follow this protocol. The text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command with its arguments. Arguments that the command does not take have their defaults."""

    command: Command
    slot: int = 0
    """The number of a slot, or ALL_SLOTS or HOOKS."""
    workers: int = 0
    """The number of workers, or a change of it if `relative` is true."""
    relative: bool = False
    signal: Signals = SIGTERM
    seconds: int = SECONDS
    """How long a worker is examined."""
    level: str = ""
    mode: str = ""
    """Which requests are logged."""
    follow: bool = False
    diff: bool = False
    wait: bool = True
    now: bool = False
    """Whether a stop cuts what is in-flight."""
    message: Any = None


# ---- lines

_ARGUMENTS: dict[Command, frozenset[str]] = {
    Command.STATUS: frozenset(),
    Command.TOP: frozenset(),
    Command.RELOAD: frozenset({"wait"}),
    Command.UPGRADE: frozenset(),
    Command.RESTART: frozenset({"slot"}),
    Command.SCALE: frozenset({"workers"}),
    Command.DRAIN: frozenset({"wait"}),
    Command.UNDRAIN: frozenset(),
    Command.STOP: frozenset({"now"}),
    Command.KILL: frozenset({"slot", "signal"}),
    Command.STACKS: frozenset({"slot"}),
    Command.PROFILE: frozenset({"slot", "seconds"}),
    Command.MEMORY: frozenset({"slot", "seconds"}),
    Command.EVENTS: frozenset({"follow"}),
    Command.CONFIG: frozenset({"diff"}),
    Command.LOG_LEVEL: frozenset({"level"}),
    Command.LOG_ACCESS: frozenset({"mode"}),
    Command.SEND: frozenset({"slot", "message"}),
    Command.DEBUG: frozenset({"slot"}),
}
_NAMED: dict[Command, dict[str, int]] = {
    Command.SEND: {"all": ALL_SLOTS},
    Command.STACKS: {"hooks": HOOKS},
    Command.KILL: {"hooks": HOOKS},
}
"""The words that a command accepts instead of the number of a slot."""
_NEEDED = frozenset({"slot", "workers", "level", "mode", "message"})


def request_line(command: Command, **arguments: object) -> bytes:
    """Return the line that requests `command`."""
    return _line({"command": command.value, **arguments})


def progress(text: str) -> bytes:
    """Return a line that reports the progress of the request."""
    return _line({"type": "progress", "text": text})


def event_line(document: dict[str, Any]) -> bytes:
    """Return a line that reports an event."""
    return _line({"type": "event", "event": document})


def result(*, succeeded: bool, text: str, data: dict[str, Any] | None = None) -> bytes:
    """Return the last line of an answer."""
    return _line({"type": "result", "succeeded": succeeded, "text": text, "data": data or {}})


def parse(line: bytes) -> dict[str, Any]:
    """Return the object in `line`. Raises ControlError."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ControlError(f"not a line of JSON: {error}") from error
    if not isinstance(document, dict):
        raise ControlError("not a JSON object")
    if document.get("version") != CONTROL_VERSION or type(document["version"]) is not int:
        found = f"version {document['version']!r}" if "version" in document else "no version"
        raise ControlError(f"{found} of the control protocol; this side speaks {CONTROL_VERSION}")
    return document


def parse_request(line: bytes) -> Request:
    """Return the request in a line. Raises ControlError, which says what was found and what is allowed."""
    document = parse(line)
    name = document.pop("command", None)
    del document["version"]
    try:
        command = Command(str(name))
    except ValueError:
        known = ", ".join(command.value for command in Command)
        raise ControlError(f"unknown command {name!r}; known are: {known}") from None
    allowed = _ARGUMENTS[command]
    for key in document:
        if key not in allowed:
            takes = ", ".join(sorted(allowed)) or "nothing"
            raise ControlError(f"{command}: unknown argument {key!r}; it takes {takes}")
    for key in sorted(allowed & _NEEDED):
        if key not in document:
            raise ControlError(f"{command}: {key} is missing")
    named = _NAMED.get(command, {})
    return Request(command, **{name: value for key in document for name, value in _argument(key, document[key], named)})


def _argument(key: str, value: object, named: dict[str, int]) -> list[tuple[str, Any]]:
    match key:
        case "slot":
            if isinstance(value, str) and value in named:
                return [("slot", named[value])]
            if type(value) is not int or not 1 <= value <= MOST_SLOTS:
                others = "".join(f', nor "{name}"' for name in named)
                raise ControlError(f"slot: {value!r} is not the number of a slot (1, 2 and so on){others}")
            return [("slot", value)]
        case "workers":
            workers, relative = parse_workers(value)
            return [("workers", workers), ("relative", relative)]
        case "signal":
            return [("signal", parse_signal(value))]
        case "seconds":
            return [("seconds", parse_seconds(value))]
        case "level" | "mode":
            return [(key, str(value))]
        case "message":
            return [("message", value)]
    if type(value) is not bool:
        raise ControlError(f"{key}: {value!r} is neither true nor false")
    return [(key, value)]


def parse_workers(value: object) -> tuple[int, bool]:
    """Return a number of workers or a change of it ("+1", "-2"), and whether it is a change. Raises ControlError.

    "auto" is CONFIGURED_WORKERS.
    """
    if value == "auto":
        return CONFIGURED_WORKERS, False
    match = re.fullmatch(r"([+-]?)(\d{1,4})", str(value), re.ASCII)
    number = int(match[0]) if match and not isinstance(value, bool) else 0
    if match is None or not 1 <= abs(number) <= MOST_SLOTS:
        allowed = f"neither a number from 1 to {MOST_SLOTS} nor a change like +1 or -1, nor auto"
        raise ControlError(f"workers: {value!r} is {allowed}")
    return number, bool(match[1])


def parse_seconds(value: object) -> int:
    """Return how long a worker is to be examined. Raises ControlError."""
    seconds = int(str(value)) if re.fullmatch(r"\d{1,4}", str(value), re.ASCII) else 0
    if not 1 <= seconds <= MOST_SECONDS:
        raise ControlError(f"seconds: {value!r} is not a number from 1 to {MOST_SECONDS}")
    return seconds


def parse_signal(value: object) -> Signals:
    """Return a signal by its name, with or without SIG, or by its number. Raises ControlError."""
    text = str(value).upper()
    try:
        if text.isdecimal():
            return Signals(int(text))
        return Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except (KeyError, ValueError):
        raise ControlError(f"signal: there is no signal {value!r}; examples are TERM, QUIT and KILL") from None


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps({"version": CONTROL_VERSION, **document}).encode() + b"\n"
