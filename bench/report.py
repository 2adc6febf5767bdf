"""docs/benchmarks.md, from what the comparison found."""

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.comparison import Outcome
from clusterd.http.compilation import describe

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

_TITLES = {
    "rollouts": "Twenty reloads under load",
    "recovery": "A worker that is killed",
    "start": "A start with 16 workers",
    "crash_loop": "A request a second that kills its worker",
    "idle_memory": "Connections that are kept alive and idle",
    "slow_headers": "Clients that never finish their headers",
    "many_connections": "Thousands of kept-alive connections at work",
    "tails": "Latencies at a constant rate of requests",
    "application_memory": "The memory of eight workers",
    "whole_processes": "Commands and starts, as whole processes",
    "scale": "Many workers",
}

_INTRODUCTION = """\
# Benchmarks

<!-- Made by `make bench`: run it again rather than edit this. -->

Every server of a table was measured in one run on one machine, in turn, {rounds} rounds of {seconds} s each (15 where
the promise is about a few percent), with the load generator on the same machine. The numbers are medians over the
rounds; the ratio is that to the first row, within each round, and again the median. Absolute numbers say something
about this machine only. How to read and repeat them:
[bench/README.md](../bench/README.md).

- Machine: {cores} cores, {processor}, Linux {kernel}
- Python {python}; {versions}; clusterd's engine {engine}
- Made on {date}

The promises that are checked stand below each table, with what was found.
"""


@dataclass(frozen=True)
class Finding:
    """What a scenario found, and whether a promise about it holds."""

    text: str
    holds: bool


def show(verdicts: Iterable[tuple[str, bool]]) -> None:
    """Print each finding of a scenario that runs by itself, and whether it holds."""
    for text, holds in verdicts:
        print(f"{'ok  ' if holds else 'FAIL'} {text}", flush=True)


def write(outcomes: list[Outcome], findings: dict[str, list[Finding]], rounds: int, seconds: int) -> None:
    """Write the page: what the scenarios found by themselves, and what the comparisons did."""
    used = {server.name: server for outcome in outcomes for server in outcome.scenario.servers}
    found = servers.versions([server for server in used.values() if server.is_there])
    parts = [
        _INTRODUCTION.format(
            rounds=rounds,
            seconds=seconds,
            cores=os.cpu_count(),
            processor=_processor(),
            kernel=platform.release().partition("-")[0],
            python=platform.python_version(),
            engine=describe(),
            versions=", ".join(f"{name} {version}" for name, version in sorted(found.items())),
            date=time.strftime("%Y-%m-%d"),
        )
    ]
    alone = {name: found for name, found in findings.items() if name in _TITLES}
    parts += [_list(_TITLES[name], found) for name, found in alone.items()]
    parts += [_section(outcome) for outcome in outcomes]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _list(title: str, findings: list[Finding]) -> str:
    lines = [f"- {'' if finding.holds else 'DOES NOT HOLD: '}{finding.text}" for finding in findings]
    return "\n".join([f"## {title}", "", *lines, ""])


def _section(outcome: Outcome) -> str:
    scenario = outcome.scenario
    present = [server for server in scenario.servers if server.name in outcome.rounds]
    lines = [f"## {scenario.title}", "", "| server | requests/s | ratio |", "| --- | ---: | ---: |"]
    for server in present:
        lines.append(f"| {server.name} | {outcome.median(server):,.0f} | {outcome.ratio(server, present[0]):.2f} |")
    lines += ["", *(f"- {'holds' if holds else 'DOES NOT HOLD'}: {text}" for text, holds in outcome.verdicts()), ""]
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
