"""One request a second kills its worker, beside 20 clients: `crashes.py [SECONDS [ROUNDS]]`.

Two workers. The clients pause for 50 ms after each answer, so what counts is not how fast a server is but how much of
the time there is a worker to answer. A request is lost when its connection ends before its answer is complete.
"""

import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import servers
from bench.loads.crowd import crowd
from bench.report import show
from bench.servers import Server

SECONDS = 36
ROUNDS = 3
WORKERS = 2
CLIENTS = ("kept:10:0.05", "fresh:10:0.05")
WARM_UP_SECONDS = 2.0
KILL_EVERY_SECONDS = 1.0
LEAST_RATIO = 1.0
"""Of what clusterd answers to what gunicorn does."""

SERVERS = (servers.CLUSTERD_THREADS, servers.GUNICORN)


@dataclass(frozen=True)
class Seen:
    """What the clients of one round saw. `refused` are the lost requests that no dying worker held."""

    answered: int
    lost: int
    refused: int
    p99: float


@dataclass
class Outcome:
    """The rounds of each server, by its name."""

    seconds: int
    rounds: dict[str, list[Seen]] = field(default_factory=dict)

    def verdicts(self) -> Iterator[tuple[str, bool]]:
        """What was found in words, and whether it is what is promised."""
        for name, seen in self.rounds.items():
            answered = statistics.median(each.answered for each in seen)
            lost = statistics.median(each.lost for each in seen)
            refused = sum(each.refused for each in seen)
            p99 = statistics.median(each.p99 for each in seen)
            text = (
                f"{name}: {answered:,.0f} requests answered and {lost:,.0f} lost in {self.seconds} s (medians of "
                f"{len(seen)}), 99th percentile {p99 * 1e3:.0f} ms; refused or never answered in all rounds: {refused}"
            )
            yield text, name != SERVERS[0].name or not refused
        subject, rival = (self.rounds[server.name] for server in SERVERS)
        ratio = statistics.median(ours.answered / theirs.answered for ours, theirs in zip(subject, rival, strict=True))
        yield f"clusterd answers {ratio:.2f} times what gunicorn does (at least {LEAST_RATIO:g})", ratio >= LEAST_RATIO


def measure(seconds: int, rounds: int) -> Outcome:
    """Each server in turn, round by round."""
    outcome = Outcome(seconds)
    for number in range(rounds):
        for server in SERVERS if number % 2 == 0 else SERVERS[::-1]:
            outcome.rounds.setdefault(server.name, []).append(_round(server, seconds))
    return outcome


def _round(server: Server, seconds: int) -> Seen:
    with server.running("fragile:app", WORKERS) as port:
        with crowd(port, CLIENTS):
            time.sleep(WARM_UP_SECONDS)  # all workers are to be ready, which is not what is measured
        with crowd(port, CLIENTS) as window, killing(port) as over:
            over.wait(seconds)
    refused = sum(count for how, count in window.lost.items() if how.startswith(("connect:", "timeout", "http/")))
    return Seen(len(window.latencies), sum(window.lost.values()), refused, window.p99)


@contextmanager
def killing(port: int) -> Iterator[threading.Event]:
    """The request that kills, again and again for the length of the block; its event is not set before the end."""
    over = threading.Event()

    def kill_on() -> None:
        while not over.wait(KILL_EVERY_SECONDS):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=KILL_EVERY_SECONDS) as client:
                    client.sendall(b"GET /kill HTTP/1.1\r\nHost: bench\r\n\r\n")
                    client.recv(4096)
            except OSError:
                continue

    thread = threading.Thread(target=kill_on)
    thread.start()
    try:
        yield over
    finally:
        over.set()
        thread.join()


def main(seconds: int, rounds: int) -> int:
    """Measure and print; the exit status."""
    verdicts = list(measure(seconds, rounds).verdicts())
    show(verdicts)
    return int(not all(holds for _, holds in verdicts))


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + [SECONDS, ROUNDS][len(numbers) :])))
