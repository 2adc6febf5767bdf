"""Latencies at a constant rate of requests, beside other servers: `tails.py [ROUNDS]`.

The rate is a part of what the best of the rivals can do, found in the same round by asking as fast as answers come, and
is the same for every server. A handler in four threads sleeps 5 ms; one on the event loop needs 1 ms of a processor.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench import servers
from bench.loads.arrivals import latencies
from bench.loads.wrk import wrk
from bench.report import show
from bench.servers import Server

ROUNDS = 5
WORKERS = 2
SECONDS = 8
WARM_UP_SECONDS = 1
CAPACITY_SECONDS = 2


@dataclass(frozen=True)
class Promise:
    """The tail of clusterd is at most `ratio` times that of the best of `rivals`."""

    rivals: tuple[Server, ...]
    ratio: float = 1.0


@dataclass(frozen=True)
class Case:
    """What is asked. `subject` is clusterd; `slow_path` is asked for by one request in a hundred."""

    title: str
    application: str
    subject: Server
    path: str
    part: float
    """Of the capacity of the best rival, for `path`."""
    promises: tuple[Promise, ...]
    slow_path: str = ""
    percentiles: tuple[float, ...] = (99.0, 99.9)

    @property
    def rivals(self) -> list[Server]:
        """Each once."""
        return list(dict.fromkeys(rival for promise in self.promises for rival in promise.rivals))


@dataclass
class Outcome:
    """The tails that a case has found: in seconds, a number for each round, by server and percentile."""

    case: Case
    rates: list[float] = field(default_factory=list)
    tails: dict[tuple[str, float], list[float]] = field(default_factory=dict)

    def verdicts(self) -> Iterator[tuple[str, bool]]:
        """What was found in words, and whether it is what is promised."""
        case = self.case
        yield f"{case.title}: {statistics.median(self.rates):,.0f} requests a second", True
        for server in (case.subject, *case.rivals):
            found = ", ".join(
                f"p{percentile:g} {statistics.median(self.tails[server.name, percentile]) * 1e3:.1f} ms"
                for percentile in case.percentiles
            )
            yield f"{server.name}: {found}", True
        for promise in case.promises:
            for percentile in case.percentiles:
                best = max(promise.rivals, key=lambda rival: self._ratio(rival, percentile))
                ratio = self._ratio(best, percentile)
                text = f"p{percentile:g}: {ratio:.2f} times that of {best.name} (at most {promise.ratio:g})"
                yield text, ratio <= promise.ratio

    def _ratio(self, rival: Server, percentile: float) -> float:
        ours, theirs = (self.tails[server.name, percentile] for server in (self.case.subject, rival))
        return statistics.median(mine / its for mine, its in zip(ours, theirs, strict=True))


_THREADED = (Promise((servers.GRANIAN_WSGI_4, servers.GUNICORN)),)
_ON_LOOP = (Promise((servers.UVICORN, servers.GRANIAN_ASGI)),)
_BESIDE_SLOW = (Promise((servers.GUNICORN,), 0.5), Promise((servers.GRANIAN_WSGI_4,)))
CASES = (
    *(
        Case(
            f"WSGI in threads, 5 ms, {part:.0%} of the capacity",
            "wsgi",
            servers.CLUSTERD_THREADS,
            "/sleep",
            part,
            _THREADED,
        )
        for part in (0.5, 0.8)
    ),
    *(
        Case(
            f"ASGI, 1 ms of a processor, {part:.0%} of the capacity",
            "asgi",
            servers.CLUSTERD_ASGI,
            "/work",
            part,
            _ON_LOOP,
        )
        for part in (0.5, 0.8)
    ),
    Case(
        "WSGI in threads, 5 ms, one request in a hundred needs 200 ms of a processor",
        "wsgi",
        servers.CLUSTERD_THREADS,
        "/sleep",
        0.2,
        _BESIDE_SLOW,
        "/burn",
        (99.0,),
    ),
)


def measure(case: Case, rounds: int) -> Outcome:
    """Each server in turn, round by round."""
    outcome, everyone = Outcome(case), [case.subject, *case.rivals]
    for number in range(rounds):
        rate = case.part * max(_capacity(case, rival) for rival in case.rivals)
        outcome.rates.append(rate)
        for server in everyone[number % len(everyone) :] + everyone[: number % len(everyone)]:
            with server.running(f"hello:{case.application}", WORKERS) as port:
                latencies(port, rate, WARM_UP_SECONDS, case.path)
                found = sorted(latencies(port, rate, SECONDS, case.path, case.slow_path))
            for percentile in case.percentiles:
                tail = found[int(len(found) * percentile / 100)]
                outcome.tails.setdefault((server.name, percentile), []).append(tail)
    return outcome


def _capacity(case: Case, server: Server) -> float:
    with server.running(f"hello:{case.application}", WORKERS) as port:
        wrk(case.path, 64)(port, WARM_UP_SECONDS)
        return wrk(case.path, 64)(port, CAPACITY_SECONDS)


def findings(rounds: int = ROUNDS) -> Iterator[tuple[str, bool]]:
    """Of all cases."""
    for case in CASES:
        yield from measure(case, rounds).verdicts()


if __name__ == "__main__":
    show(findings(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
