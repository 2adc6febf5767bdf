"""Requests a second over thousands of kept-alive connections, beside those over 64: `many_connections.py [ROUNDS]`."""

import statistics
import sys
from collections.abc import Iterator

from bench import servers
from bench.loads.wrk import wrk
from bench.report import show
from bench.scenarios.slow_clients import raise_descriptor_limit

FEW = 64
MANY = (1_000, 5_000)
LEAST_RATIO = 0.8
ROUNDS = 5
SECONDS = 3
WORKERS = 2
SUBJECTS = (
    (servers.CLUSTERD_LOOP, "hello:wsgi"),
    (servers.CLUSTERD_LONG_QUEUE, "hello:wsgi"),
    (servers.CLUSTERD_ASGI, "hello:asgi"),
)


def findings(rounds: int = ROUNDS) -> Iterator[tuple[str, bool]]:
    """For each kind of application."""
    raise_descriptor_limit()
    for server, application in SUBJECTS:
        found: dict[int, list[float]] = {count: [] for count in (FEW, *MANY)}
        for _ in range(rounds):
            with server.running(application, WORKERS) as port:
                wrk("/", FEW)(port, 1)
                for count, rates in found.items():
                    rates.append(wrk("/", count)(port, SECONDS))
        for count in MANY:
            ratio = statistics.median(many / few for many, few in zip(found[count], found[FEW], strict=True))
            text = f"{server.name}: {ratio:.2f} of the requests a second with {count:,} connections that {FEW} have"
            yield f"{text} (at least {LEAST_RATIO:g})", ratio >= LEAST_RATIO


if __name__ == "__main__":
    show(findings(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
