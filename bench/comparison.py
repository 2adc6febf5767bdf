"""Throughput side by side: every server of a scenario in turn, round by round, and the medians of the rounds.

These machines change their speed from minute to minute: what counts is the ratio within a round, and its median.
"""

import re
import statistics
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench import servers
from bench.servers import Server

WORKERS = 2
WARM_UP_SECONDS = 1


@dataclass(frozen=True)
class Promise:
    """`subject` handles at least `ratio` times what the best of `rivals` does."""

    subject: Server
    rivals: tuple[Server, ...]
    ratio: float


@dataclass(frozen=True)
class Scenario:
    """What is asked of which servers. `load` gives requests a second for a port and a number of seconds."""

    title: str
    servers: tuple[Server, ...]
    application: Callable[[Server], str]
    load: Callable[[int, int], float]
    promises: tuple[Promise, ...] = ()
    workers: int = WORKERS
    least_rounds: int = 1
    """A difference of a few percent shows in more rounds than one of factors."""


@dataclass
class Outcome:
    """Requests a second of each server of a scenario, a number for each round."""

    scenario: Scenario
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, server: Server) -> float:
        """Of its rounds."""
        return statistics.median(self.rounds[server.name])

    def ratio(self, subject: Server, rival: Server) -> float:
        """The median of the ratios within the rounds."""
        pairs = zip(self.rounds[subject.name], self.rounds[rival.name], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def verdicts(self) -> Iterator[tuple[str, bool]]:
        """Each promise in words, and whether it holds."""
        for promise in self.scenario.promises:
            rivals = [rival for rival in promise.rivals if rival.name in self.rounds]
            if not rivals or promise.subject.name not in self.rounds:
                continue
            worst = min(self.ratio(promise.subject, rival) for rival in rivals)
            best = min(rivals, key=lambda rival: self.ratio(promise.subject, rival))
            text = f"{promise.subject.name}: {worst:.2f} times {best.name} (promised: {promise.ratio:g})"
            yield text, worst >= promise.ratio


def run(scenario: Scenario, rounds: int, seconds: int) -> Outcome:
    """Measure a scenario; servers that are not on this machine are left out."""
    outcome = Outcome(scenario)
    present = [server for server in scenario.servers if server.is_there]
    for number in range(max(rounds, scenario.least_rounds)):
        # The order turns with each round: no server always follows the same one.
        for server in present[number % len(present) :] + present[: number % len(present)]:
            with server.running(scenario.application(server), scenario.workers) as port:
                scenario.load(port, WARM_UP_SECONDS)
                outcome.rounds.setdefault(server.name, []).append(scenario.load(port, seconds))
    return outcome


def wrk(path: str = "/", connections: int = 16, *arguments: str) -> Callable[[int, int], float]:
    """Load by wrk over kept-alive connections. A response that is not 2xx makes the number worthless: it raises."""

    def load(port: int, seconds: int) -> float:
        url = f"http://127.0.0.1:{port}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *arguments, url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if "Non-2xx" in done.stdout:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}")
        return float(re.findall(r"Requests/sec:\s*([0-9.]+)", done.stdout)[0])

    return load


def ab(concurrency: int) -> Callable[[int, int], float]:
    """Load by ab, which opens a connection for each request."""

    def load(port: int, seconds: int) -> float:
        command = ["ab", "-q", "-s", "10", "-t", str(seconds), "-n", "1000000", "-c", str(concurrency)]
        url = f"http://127.0.0.1:{port}/"
        done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
        return float(re.findall(r"Requests per second:\s*([0-9.]+)", done.stdout)[0])

    return load


def _hello(server: Server) -> str:
    return "hello:asgi" if server in _ASGI else "hello:wsgi"


def _patched(_: Server) -> str:
    return "patched:wsgi"


_ASGI = (servers.CLUSTERD_ASGI, servers.GRANIAN_ASGI, servers.UVICORN, servers.HYPERCORN)
_WSGI = (
    servers.CLUSTERD_LOOP,
    servers.CLUSTERD_THREADS,
    servers.GRANIAN_WSGI_1,
    servers.GRANIAN_WSGI_4,
    servers.GUNICORN,
    servers.UWSGI,
    servers.WAITRESS,
)
_GRANIAN_WSGI = (servers.GRANIAN_WSGI_1, servers.GRANIAN_WSGI_4)
_WSGI_PROMISES = (
    Promise(servers.CLUSTERD_LOOP, _GRANIAN_WSGI, 1.15),
    Promise(servers.CLUSTERD_THREADS, (servers.GRANIAN_WSGI_4,), 1.0),
    Promise(servers.CLUSTERD_THREADS, (servers.GUNICORN,), 3.0),
)
_ASGI_PROMISES = (Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.15),)
_SMALL_WSGI = (servers.CLUSTERD_LOOP, servers.CLUSTERD_THREADS, servers.GRANIAN_WSGI_4, servers.GUNICORN)
_SMALL_ASGI = (servers.CLUSTERD_ASGI, servers.GRANIAN_ASGI, servers.UVICORN)
_GEVENT = (servers.CLUSTERD_GREENLETS, servers.GUNICORN_GEVENT)
_GEVENT_PROMISES = (Promise(servers.CLUSTERD_GREENLETS, (servers.GUNICORN_GEVENT,), 1.0),)
_VARYING = str(servers.APPLICATIONS / "varying.lua")
_POST = str(servers.APPLICATIONS / "post.lua")
_NEW_CONNECTIONS = (
    servers.CLUSTERD_LOOP,
    servers.CLUSTERD_THREADS,
    servers.GRANIAN_WSGI_1,
    servers.GRANIAN_WSGI_4,
    servers.NODE,
)


def _new_connections(concurrency: int) -> Scenario:
    promises = [
        Promise(servers.CLUSTERD_LOOP, (servers.GRANIAN_WSGI_1,), 1.0),
        Promise(servers.CLUSTERD_THREADS, (servers.GRANIAN_WSGI_4,), 1.0),
        Promise(servers.CLUSTERD_THREADS, (servers.CLUSTERD_LOOP,), 0.9),
    ]
    if concurrency >= 8:
        promises.append(Promise(servers.CLUSTERD_LOOP, (servers.NODE,), 1.5))
    title = f"A new connection for each request, WSGI, {concurrency} at a time (ab)"
    return Scenario(title, _NEW_CONNECTIONS, _hello, ab(concurrency), tuple(promises))


def _new_asgi_connections(concurrency: int) -> Scenario:
    promise = Promise(servers.CLUSTERD_ASGI, (servers.UVICORN, servers.GRANIAN_ASGI), 1.1)
    title = f"A new connection for each request, ASGI, {concurrency} at a time (ab)"
    return Scenario(title, _SMALL_ASGI, _hello, ab(concurrency), (promise,))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("Hello, WSGI, 16 connections", (*_WSGI, servers.NGINX_LIMIT), _hello, wrk(), _WSGI_PROMISES),
    Scenario("Hello, ASGI, 16 connections", (*_ASGI, servers.NODE), _hello, wrk(), _ASGI_PROMISES),
    Scenario("Hello, WSGI, 64 connections", _WSGI[:5], _hello, wrk("/", 64), _WSGI_PROMISES),
    Scenario("Hello, ASGI, 64 connections", _ASGI, _hello, wrk("/", 64), _ASGI_PROMISES),
    Scenario(
        "Hello, ASGI, every request with another path and another header",
        _SMALL_ASGI,
        _hello,
        wrk("/", 16, "-s", _VARYING),
        _ASGI_PROMISES,
    ),
    Scenario(
        "Hello, WSGI, every request with another path and another header",
        _SMALL_WSGI,
        _hello,
        wrk("/", 16, "-s", _VARYING),
        (Promise(servers.CLUSTERD_LOOP, (servers.GRANIAN_WSGI_4,), 1.0),),
    ),
    Scenario("10 KB POST, WSGI", _SMALL_WSGI, _hello, wrk("/echo", 16, "-s", _POST)),
    Scenario("10 KB POST, ASGI", _SMALL_ASGI, _hello, wrk("/echo", 16, "-s", _POST)),
    # With two threads: on loopback the reader pays for what sendfile(2) saves the server, and one is not enough.
    Scenario("1 MB file, WSGI", _SMALL_WSGI, _hello, wrk("/file", 16, "-t2")),
    Scenario("1 MB file, ASGI", _SMALL_ASGI, _hello, wrk("/file", 16, "-t2")),
    Scenario("5 ms of sleep in the handler, WSGI, 4 threads", _SMALL_WSGI[1:], _hello, wrk("/sleep", 64)),
    Scenario("5 ms of sleep in the handler, ASGI", _SMALL_ASGI, _hello, wrk("/sleep", 64)),
    Scenario("Hello, WSGI under gevent, 16 connections", _GEVENT, _patched, wrk(), _GEVENT_PROMISES),
    Scenario("5 ms of sleep in the handler, WSGI under gevent", _GEVENT, _patched, wrk("/sleep", 64), _GEVENT_PROMISES),
    Scenario("Flask, JSON", _SMALL_WSGI, lambda _: "flask_json:app", wrk()),
    Scenario("FastAPI, JSON", _SMALL_ASGI, lambda _: "fastapi_json:app", wrk()),
    Scenario(
        "Per-request metrics on and off, ASGI",
        (servers.CLUSTERD_ASGI_METRICS, servers.CLUSTERD_ASGI_UNCOUNTED),
        lambda _: "hello:asgi",
        wrk(),
        (Promise(servers.CLUSTERD_ASGI_METRICS, (servers.CLUSTERD_ASGI_UNCOUNTED,), 0.97),),
        least_rounds=15,
    ),
    Scenario(
        "Per-request metrics on and off, WSGI on the loop",
        (servers.CLUSTERD_LOOP_METRICS, servers.CLUSTERD_LOOP_UNCOUNTED),
        lambda _: "hello:wsgi",
        wrk(),
        (Promise(servers.CLUSTERD_LOOP_METRICS, (servers.CLUSTERD_LOOP_UNCOUNTED,), 0.97),),
        least_rounds=15,
    ),
    *map(_new_connections, (1, 2, 4, 8, 16)),
    *map(_new_asgi_connections, (1, 2, 4, 8, 16)),
)
