"""The answers of clusterd as text: plain and in columns, for people and for programs that read lines."""

from collections.abc import Sequence
from typing import Any

from clusterd.dashboard import words
from clusterd.log.record import escaped
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. On a narrow terminal the columns with the highest `rank` are left out."""

    key: str
    title: str
    rank: int = 0
    is_number: bool = True


_COLUMNS = (
    Column("slot", "slot"),
    Column("generation", "gen", 3),
    Column("pid", "pid", 1),
    Column("state", "state"),
    Column("age", "age", 2),
    Column("restarts", "restarts", 4),
    Column("requests", "requests", 3),
    Column("connections", "conns", 5),
    Column("in_flight", "in flight", 5),
    Column("memory", "memory", 2),
)
_HOST = Column("host", "host", is_number=False)
"""The first column, if the workers are those of several hosts."""
_DEBUGGER = Column("debugger", "debugger", 1)
"""An additional column, shown if any worker has a debugger."""


def status_line(data: dict[str, Any]) -> str:
    """Return the status, with the name of the instance if it is one."""
    name = f"clusterd@{data['instance']}: " if data.get("instance") else ""
    return escaped(f"{name}{data['status']}")


def worker_columns(workers: Sequence[dict[str, Any]]) -> tuple[Column, ...]:
    """Return the columns of the table of the workers."""
    host = (_HOST,) if any("host" in worker for worker in workers) else ()
    debugger = (_DEBUGGER,) if any(worker.get("debugger") for worker in workers) else ()
    return (*host, *_COLUMNS, *debugger)


def worker_rows(columns: Sequence[Column], workers: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the cells of a row for each worker."""
    return [[_cell(column.key, worker.get(column.key)) for column in columns] for worker in workers]


def workers_text(workers: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line for each worker, and why slots have none."""
    columns = worker_columns(workers)
    rows = [[column.title for column in columns], *worker_rows(columns, workers)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = ["  ".join(map(_padded, columns, row, widths)) for row in rows]
    waiting = waiting_lines(workers)
    return "\n".join([*lines, *([""] if waiting else []), *waiting])


def waiting_lines(workers: Sequence[dict[str, Any]]) -> list[str]:
    """Say of each slot without a worker why, and when the next one is tried."""
    return [
        _of_host(worker) + words.waiting(worker["slot"], worker["retry_in"], worker["failures"], worker["reason"])
        for worker in workers
        if worker.get("retry_in") is not None
    ]


def _padded(column: Column, cell: str, width: int) -> str:
    return cell.ljust(width) if column is _HOST else cell.rjust(width)


def _of_host(worker: dict[str, Any]) -> str:
    return f"{worker['host']}: " if "host" in worker else ""


def _cell(key: str, value: Any) -> str:
    if value is None:
        return words.NOTHING
    match key:
        case "age":
            return words.duration(value)
        case "memory":
            return f"{value / (1 << 20):.0f}M"
    return escaped(str(value))


def event_line(event: dict[str, Any], clock: str) -> str:
    """Return an event as one line."""
    return f"{clock} {escaped(event['event'])} {words.event(event)}".rstrip()


def changes_text(changes: Sequence[dict[str, Any]]) -> str:
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
            return f"{{{', '.join(f'{key}: {_value(each)}' for key, each in value.items())}}}"
        case None:
            return "null"
    return str(value) or '""'
