"""Many workers: how long a start, a reload, a scrape and a stop take; what an idle service needs: `scale.py`."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.processes import family, processor_seconds, switches
from bench.report import show
from bench.scenarios.scrapes import HELLO, scrape
from bench.subject import free_port, service

WORKERS = (16, 64, 256)
MOST_GROWTH = 1.5
"""What a worker costs at most with many of them, in times of what it costs with the fewest."""
IDLE_WORKERS = 16
IDLE_SECONDS = 30
MOST_IDLE = 0.005
"""Of a processor."""


def findings() -> Iterator[tuple[str, bool]]:
    """With each number of workers, and of 16 that nobody asks for anything."""
    found = {workers: _times(workers) for workers in WORKERS}
    for workers, times in found.items():
        said = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in times.items())
        yield f"{workers} workers: {said}", True
    for what in found[WORKERS[0]]:
        least = min(found[workers][what] / workers for workers in WORKERS[:-1])
        growth = found[WORKERS[-1]][what] / WORKERS[-1] / least
        text = f"a {what} costs a worker of {WORKERS[-1]} {growth:.2f} times what it costs one of fewer"
        yield f"{text} (at most {MOST_GROWTH:g})", growth <= MOST_GROWTH
    used, woken = _idle()
    text = f"{IDLE_WORKERS} idle workers and the master: {used:.2%} of a processor (at most {MOST_IDLE:.1%})"
    yield f"{text}, {woken:.0f} wake-ups a second", used <= MOST_IDLE


def _times(workers: int) -> dict[str, float]:
    """In seconds."""
    metrics = free_port()
    settings: dict[str, Any] = {"app": "hello:app", "workers": workers, "threads": 4, "rollout": {"boot_timeout": "2m"}}
    with tempfile.TemporaryDirectory() as name:
        Path(name, "hello.py").write_text(HELLO)
        with service(Path(name), metrics=f"127.0.0.1:{metrics}", **settings) as running:
            started = running.ready_at - running.started_at
            begun = time.perf_counter()
            running.reload()
            reloaded = time.perf_counter() - begun
            scrapes = []
            for _ in range(5):
                begun = time.perf_counter()
                scrape(metrics)
                scrapes.append(time.perf_counter() - begun)
            begun = time.perf_counter()
        return {
            "start": started,
            "reload": reloaded,
            "scrape": statistics.median(scrapes),
            "stop": time.perf_counter() - begun,
        }


def _idle() -> tuple[float, float]:
    """The part of a processor that a service uses, and its wake-ups a second."""
    with tempfile.TemporaryDirectory() as name:
        Path(name, "hello.py").write_text(HELLO)
        with service(Path(name), app="hello:app", workers=IDLE_WORKERS, threads=4) as running:
            time.sleep(3)  # the end of the start
            pids = list(family(running.process.pid))
            before = sum(map(processor_seconds, pids)), sum(map(switches, pids))
            time.sleep(IDLE_SECONDS)
            after = sum(map(processor_seconds, pids)), sum(map(switches, pids))
    return (after[0] - before[0]) / IDLE_SECONDS, (after[1] - before[1]) / IDLE_SECONDS


if __name__ == "__main__":
    show(findings())
