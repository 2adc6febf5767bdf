"""What a profile costs the requests of the worker: `profiling.py [ROUNDS]`.

Rounds without and with a profile alternate, in changing order, because machines do other things too; the median of the
ratios of neighbours counts. There is one worker, which is busy
all the time: with an ASGI application on its loop, and with a WSGI application in eight threads that compete for
Python's lock. How often it was looked at is printed too: a sampler that hardly ever looks costs nothing.
"""

import json
import socket
import statistics
import sys
import tempfile
import zlib
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.loads.wrk import wrk
from bench.processes import processor_seconds
from bench.subject import Service, service

ROUNDS = 60
SECONDS = 1
LEAST_RATIO = 0.98

SHOP = """\
def price(item):
    return sum(number * item % 7 for number in range(200))

def basket(items):
    return [price(item) for item in range(items)]

def render(prices):
    return "".join(f"<li>{each}</li>" for each in prices).encode()

def wsgi(environ, start_response):
    body = render(basket(30))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

async def asgi(scope, receive, send):
    body = render(basket(30))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
CASES: dict[str, dict[str, Any]] = {
    "ASGI": {"app": "shop:asgi"},
    "WSGI, 8 threads": {"app": "shop:wsgi", "threads": 8},
}


@dataclass(frozen=True)
class Cost:
    """What was measured. The medians of all pairs of rounds, each with half the distance of the quartiles."""

    case: str
    rate: tuple[float, float]
    """The requests a second with a profile over those without."""
    work: tuple[float, float]
    """The same for the requests for each second of the worker's processor time, which other programs disturb less."""
    looks: float
    """A second."""

    def __str__(self) -> str:
        rate, work = (f"{median:.3f} (+-{spread:.3f})" for median, spread in (self.rate, self.work))
        return (
            f"{self.case}: {rate} of the requests a second while profiled, {work} of those for a second of processor "
            f"time, at {self.looks:.0f} looks a second"
        )


def measure(case: str, rounds: int = ROUNDS) -> Cost:
    """Measure one case."""
    rates, work, looks = [], [], []
    load = wrk("/", 16)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "shop.py").write_text(SHOP)
        with service(Path(directory), workers=1, **CASES[case]) as running:
            pid = running.workers()[0]["pid"]

            def plain() -> tuple[float, float]:
                before = processor_seconds(pid)
                rate = load(running.port, SECONDS)
                return rate, rate / (processor_seconds(pid) - before)

            def profiled() -> tuple[float, float]:
                with _Profile(running, SECONDS) as profile:
                    found = plain()
                looks.append(profile.looks_per_second())
                return found

            plain()
            for number in range(rounds):
                if number % 2:
                    with_it, without = profiled(), plain()
                else:
                    without, with_it = plain(), profiled()
                rates.append(with_it[0] / without[0])
                work.append(with_it[1] / without[1])
    return Cost(case, _middle(rates), _middle(work), statistics.median(looks))


def _middle(values: list[float]) -> tuple[float, float]:
    lower, median, upper = statistics.quantiles(values, n=4)
    return median, (upper - lower) / 2


class _Profile:
    """A profile of worker 1 that is under way."""

    def __init__(self, running: Service, seconds: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(running.control))
        request = {"version": 1, "command": "profile", "slot": 1, "seconds": seconds}
        self._socket.sendall(json.dumps(request).encode() + b"\n")

    def __enter__(self) -> "_Profile":
        return self

    def __exit__(self, *_: object) -> None:
        with self._socket, self._socket.makefile("rb") as lines:
            answers = list(lines)
        self._result: dict[str, Any] = json.loads(answers[-1])

    def looks_per_second(self) -> float:
        """How often the worker was looked at."""
        profile = json.loads(zlib.decompress(b64decode(self._result["data"]["result"])))
        looks: float = profile["looks"] / profile["seconds"]
        return looks


if __name__ == "__main__":
    for name in CASES:
        print(measure(name, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS), flush=True)
