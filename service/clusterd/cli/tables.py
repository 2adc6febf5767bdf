"""Formats answers for people: tables, colours on terminals, and a progress line."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from clusterd.log.record import escaped, quoted

_COLUMNS = (
    ("slot", "slot"),
    ("generation", "gen"),
    ("pid", "pid"),
    ("state", "state"),
    ("age", "age"),
    ("restarts", "restarts"),
    ("requests", "requests"),
    ("connections", "conns"),
    ("in_flight", "in flight"),
    ("memory", "memory"),
)
_DEBUGGER = ("debugger", "debugger")
"""An additional column, shown if any worker has a debugger."""
_COLOURS = {
    "ready": "32",
    "draining": "33",
    "retired": "33",
    "booting": "36",
    "forking": "36",
    "ending": "31",
    "backoff": "31",
}
_BUSY_SECONDS = 1.0
"""A handler that takes longer than this is shown."""
_SPINNER = "|/-\\"


def wants_colour(stream: TextIO) -> bool:
    """Return whether to use colours: only on a terminal, and never if NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def status_line(data: dict[str, Any]) -> str:
    """Return the status, with the name of the instance if it is one."""
    name = f"clusterd@{data['instance']}: " if data.get("instance") else ""
    return escaped(f"{name}{data['status']}")


def workers_table(workers: Sequence[dict[str, Any]], *, colour: bool) -> str:
    """Return a table with a line for each worker."""
    columns = (*_COLUMNS, _DEBUGGER) if any(worker.get("debugger") for worker in workers) else _COLUMNS
    rows = [[title for _, title in columns]]
    rows += [[cell_of(key, worker.get(key)) for key, _ in columns] for worker in workers]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if colour:
        for number, worker in enumerate(workers, start=1):
            lines[number] = f"\033[{_COLOURS.get(worker['state'], '0')}m{lines[number]}\033[0m"
    waiting = [_waiting_line(worker) for worker in workers if worker.get("retry_in") is not None]
    return "\n".join([*lines, *([""] if waiting else []), *waiting])


def _waiting_line(worker: dict[str, Any]) -> str:
    """Say why a slot has no worker, and when the next one is tried."""
    failed = f", failed {worker['failures']} times" if worker["failures"] else ""
    return escaped(f"slot {worker['slot']}: next try in {duration(worker['retry_in'])}{failed}: {worker['reason']}")


def cell_of(key: str, value: Any) -> str:
    """Return a worker's value as the short text of a cell."""
    if value is None:
        return "-"
    match key:
        case "age":
            return duration(value)
        case "memory":
            return f"{value / (1 << 20):.0f}M"
    return escaped(str(value))


def duration(seconds: float) -> str:
    """Write the duration in its two largest units."""
    whole = int(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{lesser}"
    return f"{seconds:.1f}s"


def hooks_line(hooks: dict[str, Any]) -> str:
    """Return a line with the state of the hooks process."""
    counts = (
        ("waiting", hooks["waiting"]),
        ("restarts", hooks["restarts"]),
        ("dropped", hooks["events_dropped"] + hooks["messages_dropped"]),
        ("cut", hooks["cut"]),
    )
    known = ", ".join(f"{what} {count}" for what, count in counts if count)
    if hooks["busy_seconds"] >= _BUSY_SECONDS:
        busy = f"busy with {hooks['busy_with']} for {duration(hooks['busy_seconds'])}"
        known = ", ".join(filter(None, (busy, known)))
    if hooks["failure"] is not None:
        retry = f", trying again in {duration(hooks['retry_seconds'])}" if hooks["retry_seconds"] else ""
        known = "; ".join(filter(None, (known, f"died: {hooks['failure']}{retry}")))
    who = f"generation {hooks['generation']}, pid {hooks['pid'] or '-'}"
    return escaped(f"hooks {hooks['module']}: {hooks['state']}, {who}{f'; {known}' if known else ''}")


def event_line(event: dict[str, Any], clock: str) -> str:
    """Return an event as one line."""
    known = ("number", "time", "event")
    shown = ((key, value) for key, value in event.items() if key not in known and value is not None)
    return escaped(f"{clock} {event['event']} {' '.join(f'{key}={_field(value)}' for key, value in shown)}".rstrip())


def _field(value: Any) -> str:
    """Write the value of a field, quoted if it contains spaces."""
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def changes_table(changes: Sequence[dict[str, Any]]) -> str:
    """Return what a reload would change, one setting a line."""
    return "\n".join(
        escaped(f"{each['key']}: {_value(each['before'])} -> {_value(each['after'])} (applies: {each['applies']})")
        for each in changes
    )


def settings_lines(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """Return every setting as one line with its full key."""
    lines = []
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            lines += settings_lines(value, f"{prefix}{key}.")
        else:
            lines.append(escaped(f"{prefix}{key}: {_value(value)}"))
    return lines


def _value(value: Any) -> str:
    """Write the value as a file would have it."""
    match value:
        case list():
            return f"[{', '.join(map(str, value))}]"
        case dict():
            return "{}"
        case None:
            return "null"
    return str(value) or '""'


class Spinner:
    """Shows progress on one line of a terminal. Prints nothing if the stream is not a terminal."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._turns = 0
        self._shows = stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Show the text as the current progress."""
        if self._shows:
            self._turns += 1
            line = f"{_SPINNER[self._turns % len(_SPINNER)]} {escaped(text)}"
            line = line[: max(1, shutil.get_terminal_size().columns - 1)]
            self._stream.write(f"\r{line.ljust(self._width)}")
            self._stream.flush()
            self._width = len(line)

    def clear(self) -> None:
        """Erase the line, so that other output can take its place."""
        if self._width:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()
            self._width = 0
