"""What clusterctl shows on a terminal, by rich: tables that fit its width, colours, and progress.

rich is imported where it is needed: `systemctl reload` calls clusterctl without a terminal, and must not wait for it.
"""

import os
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from clusterd.cli import tables
from clusterd.log.record import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

_STYLES = {
    "ready": "green",
    "draining": "yellow",
    "retired": "yellow",
    "booting": "cyan",
    "forking": "cyan",
    "waits": "dim",
    "ending": "red",
    "empty": "red",
    "backoff": "red",
}
_GAP = 2
"""Between two columns."""


def is_terminal(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def console(stream: TextIO) -> "Console":
    """Return the terminal. It has no colours if NO_COLOR is set (https://no-color.org).

    A character that its encoding does not have becomes a question mark.
    """
    from rich.console import Console

    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    no_colour = bool(os.environ.get("NO_COLOR"))
    return Console(file=stream, force_terminal=True, no_color=no_colour, highlight=False, markup=False, emoji=False)


def style_of(state: str) -> str:
    """Return the style for the state of a worker."""
    return _STYLES.get(state, "")


def that_fit(columns: Sequence[tables.Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the numbers of the columns that fit into `width`, without the least important ones.

    `rows` have a cell for each column, and the titles are one of them.
    """
    widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
    kept = list(range(len(columns)))
    while len(kept) > 1 and sum(widths[number] + _GAP for number in kept) - _GAP > width:
        kept.remove(max(kept, key=lambda number: (columns[number].rank, number)))
    return kept


def table(
    columns: Sequence[tables.Column], rows: Sequence[Sequence[str]], styles: Sequence[str], width: int
) -> "Table":
    """Return a table with a style for each row."""
    from rich.table import Table

    titles = [column.title for column in columns]
    kept = that_fit(columns, [titles, *rows], width)
    made = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for number in kept:
        made.add_column(titles[number], justify="right" if columns[number].is_number else "left", no_wrap=True)
    for row, style in zip(rows, styles, strict=True):
        made.add_row(*(row[number] for number in kept), style=style)
    return made


def print_workers(workers: Sequence[dict[str, Any]], stream: TextIO) -> None:
    """Print a table with a line for each worker, and why slots have none."""
    out = console(stream)
    columns = tables.worker_columns(workers)
    styles = [style_of(worker["state"]) for worker in workers]
    out.print(table(columns, tables.worker_rows(columns, workers), styles, out.width))
    for number, line in enumerate(tables.waiting_lines(workers)):
        out.print(f"{'' if number else chr(10)}{line}", style="red")


class Spinner:
    """Shows progress on one line of a terminal. Shows nothing if the stream is not a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._status: Status | None = None

    def show(self, text: str) -> None:
        """Show the text as the current progress."""
        if not is_terminal(self._stream):
            return
        from rich.text import Text

        line = Text(escaped(text), no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = console(self._stream).status(line, spinner="line")
            self._status.start()
        else:
            self._status.update(line)

    def clear(self) -> None:
        """Erase the line, so that other output can take its place."""
        if self._status is not None:
            self._status.stop()
            self._status = None
