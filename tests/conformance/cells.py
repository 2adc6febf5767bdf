"""What the grid's run has seen, a cell a line, and the page that is written of it.

`python -m tests.conformance.cells CELLS PAGE` writes docs/compatibility.md.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from tests.support.frameworks import APPLICATIONS, Feature

CELLS = "CLUSTERD_CELLS"
"""The environment variable that names the file of the cells, one JSON object a line."""

ENGINES = ("interpreted", "compiled")
OFFERED = (
    Feature.JSON,
    Feature.UPLOAD,
    Feature.STREAM,
    Feature.HEAD,
    Feature.FILE,
    Feature.WEBSOCKET,
    Feature.EVENTS,
    Feature.BACKGROUND,
    Feature.LIFESPAN,
)
ENDED = tuple(feature for feature in Feature if feature not in OFFERED)


class Verdict(StrEnum):
    """What a cell says."""

    YES = "yes"
    NO = "no"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True)
class Cell:
    """What was seen of one feature of one application, with one form of the engine."""

    application: str
    versions: str
    engine: str
    feature: str
    verdict: str
    measured: str = ""
    """What took its place in the table, such as a time."""
    note: str = ""
    """Why not, or what else there is to know."""


def record(cell: Cell) -> None:
    """Keep a cell, where the run writes a page."""
    path = os.environ.get(CELLS)
    if path is not None:
        with Path(path).open("a") as cells:
            cells.write(json.dumps(asdict(cell)) + "\n")


_PAGE = """# Compatibility

Frameworks under clusterd: the same small application, written for each, is served by two workers and asked by the same
client. `make conformance` runs every cell as a test with the engine interpreted and compiled, fails where a cell is not
as expected, and writes this page. An empty cell is something that the framework does not offer. A **no** was
tried under uvicorn too, where that serves it.

Run on {date} with Python {python}, Linux {kernel}.

## What works

*Upload* is 1 MiB, by Content-Length and in chunks. *SSE* is that the first event arrives while the stream goes on.

{offered}

## How it ends

A time is the longest of six (three with each form of the engine) from the moment in which a client leaves to the
`finally` of the generator or of the WebSocket's handler. ASGI streams are idle meanwhile; WSGI streams send every
10 ms, since a thread that waits cannot be ended. *Client stops reading*: an endless stream whose client keeps its
connection and reads nothing for `timeouts.write` is ended. *Reload* and *stop under load* are the numbers of requests,
of clients with kept and with new connections, of which none was lost.

{ended}

{notes}
"""


def page(cells: Sequence[Cell]) -> str:
    """docs/compatibility.md."""
    notes: list[str] = []
    tables = {"offered": _table(cells, OFFERED, notes), "ended": _table(cells, ENDED, notes)}
    return _PAGE.format(
        date=time.strftime("%Y-%m-%d"),
        python=platform.python_version(),
        kernel=".".join(platform.release().split(".")[:2]),
        notes="\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1)),
        **tables,
    )


def _table(cells: Sequence[Cell], features: Sequence[Feature], notes: list[str]) -> str:
    names = " | ".join(feature.value for feature in features)
    lines = [f"| framework | versions | {names} |", "|---" * (len(features) + 2) + "|"]
    for application in APPLICATIONS:
        own = [cell for cell in cells if cell.application == application.title]
        texts = [_text([cell for cell in own if cell.feature == feature.value], notes) for feature in features]
        lines.append(f"| {application.title} | {own[0].versions} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _text(cells: Sequence[Cell], notes: list[str]) -> str:
    """What both forms of the engine say. Raises ValueError where they do not say the same."""
    if sorted(cell.engine for cell in cells) != sorted(ENGINES) or len({cell.verdict for cell in cells}) != 1:
        raise ValueError(f"one cell of each form of the engine was expected, found {cells}")
    verdict, note = cells[0].verdict, cells[0].note
    if verdict == Verdict.NOT_OFFERED:
        return ""
    measured = [cell.measured for cell in cells if cell.measured]
    text = f"**{verdict}**" if verdict == Verdict.NO else _most(measured) if measured else verdict
    if not note:
        return text
    if note not in notes:
        notes.append(note)
    return f"{text} [{notes.index(note) + 1}]"


def _most(measured: Sequence[str]) -> str:
    number, unit = max((int(each.split()[0]), each.split()[1]) for each in measured)
    return f"{number:,} {unit}"


def main(cells: Path, target: Path) -> None:
    """Write the page from the cells that a run of the tests has kept."""
    target.write_text(page([Cell(**json.loads(line)) for line in cells.read_text().splitlines()]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
