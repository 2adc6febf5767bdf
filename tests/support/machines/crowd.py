"""The crowd of load.py, seen from a test."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.support.machines.machine import Process

_PROGRAM = Path(__file__).with_name("load.py")


class Networked(Protocol):
    """A machine or a host, in whose network clients can be started."""

    def start_in_network(self, *command: str) -> Process:
        """Start a command of this machine that sees only that network."""


@dataclass(frozen=True)
class Result:
    """What the clients saw; see load.py."""

    answered: int
    lost: dict[str, int]
    statuses: dict[str, int]
    answers: dict[str, int]
    closed: int
    median: float
    p99: float
    longest_gap: float


@dataclass
class Crowd:
    """Filled in when the crowd has gone home."""

    results: list[Result] = field(default_factory=list)

    @property
    def result(self) -> Result:
        """What the clients saw; only after the end of the with block."""
        return self.results[0]


@contextmanager
def crowd(machine: Networked, *options: str, host: str = "127.0.0.1", port: int = 8000) -> Iterator[Crowd]:
    """Clients that ask from before the block begins until it ends; options are those of load.py."""
    seen = Crowd()
    process = machine.start_in_network(sys.executable, str(_PROGRAM), host, str(port), *options)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield seen
        output, _ = process.communicate(timeout=60)
        seen.results.append(Result(**json.loads(output)))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
