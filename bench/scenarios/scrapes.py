"""What it costs to be scraped once a second, as Prometheus does it: `scrapes.py [ROUNDS]`.

Rounds without and with scrapes alternate, because machines do other things too.
"""

import http.client
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.loads.wrk import wrk
from bench.processes import processor_seconds
from bench.subject import free_port, service

WORKERS = (2, 64)
ROUNDS = 15
SECONDS = 4
LEAST_RATIO = 0.97

HELLO = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
_AS_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    "Accept-Encoding": "gzip",
}


@dataclass(frozen=True)
class Cost:
    """What was measured with so many workers."""

    workers: int
    ratio: float
    """The median of the rounds with scrapes, in requests a second, over that of the rounds without."""
    processor_seconds: float
    """What the master needs for a scrape."""
    page_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.workers} workers: {self.ratio:.3f} of the requests a second while scraped once a second; "
            f"a scrape takes the master {self.processor_seconds * 1000:.1f} ms of processor time, and has "
            f"{self.page_bytes} bytes"
        )


def measure(workers: int, rounds: int = ROUNDS) -> Cost:
    """Measure with so many workers."""
    unscraped, scraped, idle, busy, scrapes = [], [], 0.0, 0.0, 0
    load, port = wrk("/", 64), free_port()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "hello.py").write_text(HELLO)
        settings: dict[str, Any] = {"app": "hello:app", "workers": workers, "threads": 0}
        with service(Path(directory), metrics=f"127.0.0.1:{port}", **settings) as running:
            load(running.port, 1)
            scrape(port)
            for _ in range(rounds):
                before = processor_seconds(running.process.pid)
                unscraped.append(load(running.port, SECONDS))
                between = processor_seconds(running.process.pid)
                with _scraping(port) as sizes:
                    scraped.append(load(running.port, SECONDS))
                idle += between - before
                busy += processor_seconds(running.process.pid) - between
                scrapes += len(sizes)
    ratio = statistics.median(scraped) / statistics.median(unscraped)
    return Cost(workers, ratio, (busy - idle) / scrapes, sizes[-1])


def scrape(port: int) -> int:
    """Scrape once; the number of bytes of the page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers=_AS_PROMETHEUS)
        return len(connection.getresponse().read())
    finally:
        connection.close()


@contextmanager
def _scraping(port: int) -> Iterator[list[int]]:
    """Scrape once a second; the sizes of the pages."""
    sizes: list[int] = []
    is_over = threading.Event()

    def scrape_on() -> None:
        while not is_over.is_set():
            sizes.append(scrape(port))
            is_over.wait(1)

    thread = threading.Thread(target=scrape_on)
    thread.start()
    try:
        yield sizes
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    for number in WORKERS:
        print(measure(number, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS), flush=True)
