"""What becomes of a service when something is done to it: the requests are counted, and a table is kept.

Each row of docs/reliability.md is what one test has counted; `make operate` runs them all and writes the page anew:
`python -m tests.support.machines.reliability ROWS PAGE`.
"""

import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.machines.crowd import Crowd, crowd
from tests.support.machines.machine import Machine

ROWS = "CLUSTERD_RELIABILITY"
"""The environment variable that names the file for the rows, one JSON object a line."""


@dataclass(frozen=True)
class Row:
    """What was done to a service, and what its clients saw."""

    fault: str
    system: str
    requests: int
    lost: int
    refused: int
    outage: float
    """The longest time, in seconds, in which no client got an answer."""


@dataclass(frozen=True)
class Seen:
    """What all clients together have seen, when they have gone home."""

    crowds: tuple[Crowd, ...]

    @property
    def answered(self) -> int:
        """How many requests were answered."""
        return sum(each.result.answered for each in self.crowds)

    @property
    def troubles(self) -> Counter[str]:
        """What else became of requests, by the name of the error."""
        return sum((Counter(each.result.lost) for each in self.crowds), Counter())

    @property
    def refused(self) -> int:
        """How many connections were refused: nothing was lost with them, and a proxy goes elsewhere."""
        return sum(number for name, number in self.troubles.items() if name.startswith("ConnectionRefused"))

    @property
    def lost(self) -> int:
        """How many requests were lost: reset, cut, or without an answer in time."""
        return self.troubles.total() - self.refused

    @property
    def outage(self) -> float:
        """The longest time in seconds without any answer, or a little more: the shortest of all crowds."""
        return min(each.result.longest_gap for each in self.crowds)


@contextmanager
def crowds(machine: Machine, *options: str) -> Iterator[Seen]:
    """Twenty clients that ask from before the block begins until it ends; half of them keep their connections."""
    with (
        crowd(machine, "--clients", "10", *options) as kept,
        crowd(machine, "--clients", "10", "--connection", "fresh", *options) as fresh,
    ):
        yield Seen((kept, fresh))


def record(machine: Machine, fault: str, seen: Seen) -> None:
    """Keep a row for docs/reliability.md where `make operate` asks for it."""
    path = os.environ.get(ROWS)
    if path is None:
        return
    row = Row(fault, machine.suite, seen.answered + seen.lost + seen.refused, seen.lost, seen.refused, seen.outage)
    with Path(path).open("a") as rows:
        rows.write(json.dumps(asdict(row)) + "\n")


_SYSTEMS = {"bookworm": "Debian 12 (systemd 252)", "trixie": "Debian 13 (systemd 257)"}

_PAGE = """# Reliability

What clients see while something is done to the packaged service, in booted Debian 12 and 13. `make operate` runs each
row as a test, fails where a request is lost that should not be, and writes this page.

Measured on {date}, Linux {kernel}, {cpus} processors that clients and service share: 20 clients, half of which keep
their connections; the application takes 5 ms for an answer and half a second to import. *Lost* is a request that was
reset, cut or not answered in time. *Refused* is a connection that was not accepted: no request is lost with it, and a
proxy goes elsewhere. *Longest pause* is how long no client got an answer.

| what was done | system | requests | lost | refused | longest pause |
|---|---|---|---|---|---|
{rows}
"""


def page(rows: Sequence[Row]) -> str:
    """docs/reliability.md."""
    lines = [
        f"| {row.fault} | {_SYSTEMS[row.system]} | {row.requests:,} | {row.lost} | {row.refused} | {row.outage:.2f} s |"
        for row in sorted(rows, key=lambda row: (row.fault, row.system))
    ]
    kernel = ".".join(platform.release().split(".")[:2])
    return _PAGE.format(date=time.strftime("%Y-%m-%d"), kernel=kernel, cpus=os.cpu_count(), rows="\n".join(lines))


def main(rows: Path, target: Path) -> None:
    """Write the page from the rows that a run of the tests has kept. Other sections stay, such as that of the soak."""
    _, heading, others = target.read_text().partition("\n## ")
    table = page([Row(**json.loads(line)) for line in rows.read_text().splitlines()])
    target.write_text(f"{table}{heading}{others}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
