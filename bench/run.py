"""Run the scenarios and say whether the promises hold: `run.py [SCENARIO ...]`."""

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench import comparison
from bench import report as benchmarks_page
from bench.loads.crowd import crowd
from bench.report import Finding
from bench.scenarios import (
    application_memory,
    crashes,
    hostile_clients,
    many_connections,
    profiling,
    scale,
    scrapes,
    slow_clients,
    tails,
    whole_processes,
)
from bench.scenarios import idle_memory as idle
from bench.scenarios.throughput import TABLES
from bench.subject import Service, await_answer, service

CLIENTS = ("kept:50:0.02", "kept:50:0.2", "fresh:16:0.1")
RELOADS = 20
RELOADS_A_ROUND = 2
MOST_LOAD = 0.7
MOST_P99_RATIO = 1.5
KILLS = 11
MOST_RECOVERY_SECONDS = 0.05
MOST_START_SECONDS = 0.5
ROUNDS = 3
SECONDS = 2


@dataclass
class Report:
    """What the scenarios found. `outcomes` are the comparisons with other servers."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    outcomes: list[comparison.Outcome] = field(default_factory=list)

    def begin(self, scenario: str) -> None:
        """What is said from now on was found by this scenario."""
        print(scenario, flush=True)
        self.findings[scenario] = []

    def say(self, text: str, *, holds: bool = True) -> None:
        """Print and keep a finding."""
        print(f"  {'ok  ' if holds else 'FAIL'} {text}", flush=True)
        [*_, findings] = self.findings.values()
        findings.append(Finding(text, holds))

    @property
    def is_good(self) -> bool:
        """Whether every promise holds."""
        return all(finding.holds for findings in self.findings.values() for finding in findings)


def rollouts(report: Report) -> None:
    """Reloads under load."""
    with tempfile.TemporaryDirectory() as directory, service(Path(directory)) as running:
        steady, reloading = [], []
        for _ in range(RELOADS // RELOADS_A_ROUND):
            started = time.monotonic()
            with crowd(running.port, CLIENTS) as window:
                for _ in range(RELOADS_A_ROUND):
                    running.reload()
                seconds = time.monotonic() - started
            reloading.append(window)
            with crowd(running.port, CLIENTS) as window:
                time.sleep(seconds)  # the same length of time without reloads
            steady.append(window)
    load = statistics.median(window.load for window in steady)
    report.say(f"steady load {load:.0%} of the processors (at most {MOST_LOAD:.0%})", holds=load <= MOST_LOAD)
    windows = steady + reloading
    requests = sum(len(window.latencies) for window in windows)
    lost = {how: count for window in windows for how, count in window.lost.items()}
    report.say(f"{requests} requests, {RELOADS} reloads: {sum(lost.values())} lost {lost or ''}", holds=not lost)
    closed = sum(window.closed for window in windows)
    report.say(f"{closed} kept-alive connections closed by the server", holds=not closed)
    ratio = statistics.median(r.p99 / s.p99 for r, s in zip(reloading, steady, strict=True))
    with_reload = statistics.median(window.p99 for window in reloading)
    without = statistics.median(window.p99 for window in steady)
    text = f"p99 {with_reload * 1e3:.1f} ms while reloading, {without * 1e3:.1f} ms without: ratio {ratio:.2f}"
    report.say(text, holds=ratio <= MOST_P99_RATIO)


def recovery(report: Report) -> None:
    """Workers killed."""
    with tempfile.TemporaryDirectory() as directory, service(Path(directory), megabytes=150, workers=1) as running:
        seconds = [_kill_and_wait(running) for _ in range(KILLS)]
    median = statistics.median(seconds)
    text = f"a replacement is ready {median * 1e3:.1f} ms after the master learned of the death (median of {KILLS})"
    report.say(text, holds=median <= MOST_RECOVERY_SECONDS)


def _kill_and_wait(running: Service) -> float:
    """Kill the worker; seconds from the master's learning of it to the replacement's first answer."""
    [victim] = [worker["pid"] for worker in running.workers() if worker["state"] == "ready"]
    os.kill(victim, signal.SIGKILL)
    await_answer(running.port)
    answered = time.time()
    learned = running.logged_at(f"pid={victim} reason=signal")[-1][0]
    # Restarts are counted anew: what is measured is a crash, not a crash loop.
    running.reload()
    return answered - learned


def start(report: Report) -> None:
    """A start with many workers."""
    seconds = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as directory, service(Path(directory), workers=16) as running:
            [(_, line)] = running.logged_at("template ready")
            imported = float(line.partition("seconds=")[2].split()[0])
            seconds.append(running.ready_at - running.started_at - imported)
    median = statistics.median(seconds)
    text = f"READY=1 with 16 workers {median:.2f} s above the import (median of {len(seconds)})"
    report.say(text, holds=median <= MOST_START_SECONDS)


def throughput(report: Report) -> None:
    """Side by side with other servers: with it, docs/benchmarks.md is written."""
    for scenario in TABLES:
        print(f"  {scenario.title}", flush=True)
        outcome = comparison.run(scenario, ROUNDS, SECONDS)
        report.outcomes.append(outcome)
        for name, rounds in outcome.rounds.items():
            print(f"       {name}: {', '.join(f'{each:,.0f}' for each in rounds)}", flush=True)
        for text, holds in outcome.verdicts():
            report.say(text, holds=holds)


def crash_loop(report: Report) -> None:
    """A request a second kills its worker."""
    outcome = crashes.measure(crashes.SECONDS, ROUNDS)
    for text, holds in outcome.verdicts():
        report.say(text, holds=holds)


def idle_memory(report: Report) -> None:
    """What a connection costs that is kept alive."""
    for name, size in idle.all_kinds(idle.CONNECTIONS):
        report.say(f"{name}: {size:,.0f} bytes of memory for an idle connection, with {idle.CONNECTIONS:,} of them")


def slow_headers(report: Report) -> None:
    """Beside clients that never finish their heads."""
    for threads in (0, 4):
        ratio = slow_clients.measure(slow_clients.CONNECTIONS, slow_clients.ROUNDS, threads)
        beside = f"beside {slow_clients.CONNECTIONS:,} slow ones (at most {slow_clients.MOST_RATIO:g})"
        text = f"threads {threads}: a normal client waits {ratio:.2f} times as long {beside}"
        report.say(text, holds=ratio <= slow_clients.MOST_RATIO)


def hostile(report: Report) -> None:
    """Beside clients whose bytes cost more than they carry."""
    for attack in hostile_clients.attacks():
        ratio, most = hostile_clients.measure(attack, hostile_clients.ROUNDS), hostile_clients.MOST_RATIO[attack.count]
        report.say(f"{attack}: a normal client waits {ratio:.2f} times as long (at most {most:g})", holds=ratio <= most)


def scraping(report: Report) -> None:
    """A scrape a second."""
    for workers in scrapes.WORKERS:
        cost = scrapes.measure(workers)
        report.say(str(cost), holds=cost.ratio >= scrapes.LEAST_RATIO)


def sampling(report: Report) -> None:
    """A profile of a worker that is busy."""
    for case in profiling.CASES:
        cost = profiling.measure(case)
        report.say(str(cost), holds=cost.rate[0] >= profiling.LEAST_RATIO)


def saying(find: Callable[[], Iterable[tuple[str, bool]]]) -> Callable[[Report], None]:
    """A scenario that only says what it finds."""

    def scenario(report: Report) -> None:
        for text, holds in find():
            report.say(text, holds=holds)

    return scenario


SCENARIOS: dict[str, Callable[[Report], None]] = {
    "rollouts": rollouts,
    "recovery": recovery,
    "start": start,
    "crash_loop": crash_loop,
    "idle_memory": idle_memory,
    "slow_headers": slow_headers,
    "hostile": hostile,
    "scrapes": scraping,
    "profiling": sampling,
    "many_connections": saying(many_connections.findings),
    "tails": saying(tails.findings),
    "application_memory": saying(application_memory.findings),
    "whole_processes": saying(whole_processes.findings),
    "scale": saying(scale.findings),
    "throughput": throughput,
}


def main() -> int:
    """The exit status: 1 when a promise does not hold."""
    report = Report()
    for name in sys.argv[1:] or SCENARIOS:
        report.begin(name)
        SCENARIOS[name](report)
    if report.outcomes:
        benchmarks_page.write(report.outcomes, report.findings, ROUNDS, SECONDS)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
