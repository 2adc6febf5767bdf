"""A crowd of clients beside a server, and what they saw."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Window:
    """What the crowd saw during one window."""

    latencies: list[float] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    closed: int = 0
    load: float = 0.0

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return statistics.quantiles(self.latencies, n=100)[98]


@contextmanager
def crowd(port: int, clients: tuple[str, ...]) -> Iterator[Window]:
    """The clients, as clients.py takes them, at work from before the block until its end."""
    window = Window()
    command = [sys.executable, str(Path(__file__).with_name("clients.py")), str(port), *clients]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = _processor_times()
        yield window
        busy, total = (after - at for after, at in zip(_processor_times(), before, strict=True))
        output, _ = process.communicate()
    seen = json.loads(output)
    window.latencies, window.lost, window.closed = seen["latencies"], seen["lost"], seen["closed"]
    window.load = busy / total


def _processor_times() -> tuple[int, int]:
    """Busy and all time of all processors together, in ticks (proc_stat(5))."""
    values = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(values) - values[3] - values[4], sum(values)
