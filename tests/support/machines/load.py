"""A crowd of HTTP clients as a program of its own, so that it can be started in a container's network.

    load.py HOST PORT [--clients N] [--think SECONDS] [--connection kept|fresh] [--method GET|POST] [--timeout SECONDS]
            [--name NAME]

Prints "ready" once every client has had an answer, runs until its standard input ends, lets each client finish
the request it has under way, and prints one JSON object: requests answered, each kind of trouble with its number,
the answers' first words with their numbers, and in seconds the median and 99th percentile of the latency and the
longest gap between two answers, whichever clients got them.

A request is lost when it got no whole answer: refused, reset, early end, timeout. A connection counts as closed
when the server ended a kept-alive one, said "Connection: close", or both.

With a name, each request asks for a path of its own: /NAME-NUMBER.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Counts:
    """What the crowd has seen so far."""

    latencies: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    answered_at: float | None = None
    longest_gap: float = 0.0

    def answer(self, latency: float) -> None:
        """Take in an answer that has come now."""
        self.latencies.append(latency)
        now = time.monotonic()
        if self.answered_at is not None:
            self.longest_gap = max(self.longest_gap, now - self.answered_at)
        self.answered_at = now

    def to_json(self) -> dict[str, object]:
        """The result as it is printed."""
        whole = len(self.latencies) >= 2
        percentiles = statistics.quantiles(self.latencies, n=100) if whole else [0.0] * 99
        return {
            "answered": len(self.latencies),
            "lost": dict(self.lost),
            "statuses": dict(self.statuses),
            "answers": dict(self.answers),
            "closed": self.closed,
            "median": percentiles[49],
            "p99": percentiles[98],
            "longest_gap": self.longest_gap,
        }


class Client:
    """One client: asks, thinks, asks again."""

    def __init__(self, options: argparse.Namespace, tally: Counts, numbers: Iterator[int]) -> None:
        self._options = options
        self._numbers = numbers
        self._counts = tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._answers_here = 0
        connection = "" if options.connection == "kept" else "Connection: close\r\n"
        length, body = ("", "") if options.method == "GET" else ("Content-Length: 4\r\n", "body")
        self._after_path = f" HTTP/1.1\r\nHost: {options.host}\r\n{connection}{length}\r\n{body}"

    async def run(self, first_answer: asyncio.Event, end: asyncio.Event) -> None:
        """Ask until the end, then leave the connection properly."""
        while not end.is_set():
            await self._ask()
            first_answer.set()
            try:
                await asyncio.wait_for(end.wait(), self._options.think)
            except TimeoutError:
                continue
        self._leave()

    async def _ask(self) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._options.timeout):
                await self._exchange()
        except TimeoutError:
            self._lose("timeout")
        except (OSError, asyncio.IncompleteReadError) as error:
            self._lose(type(error).__name__)
        else:
            self._counts.answer(time.monotonic() - started)

    async def _exchange(self) -> None:
        if self._streams is not None and self._streams[0].at_eof():
            self._counts.closed += 1
            self._leave()
        if self._streams is None:
            self._answers_here = 0
            self._streams = await asyncio.open_connection(self._options.host, self._options.port)
        reader, writer = self._streams
        path = f"/{self._options.name}-{next(self._numbers)}" if self._options.name else "/"
        writer.write(f"{self._options.method} {path}{self._after_path}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        body = await reader.readexactly(int(length))
        status = int(head.split(b" ", 2)[1])
        self._answers_here += 1
        self._counts.statuses[status] += 1
        self._counts.answers[body.split(b" ", 1)[0].decode(errors="replace").strip()] += 1
        if b"connection: close" in head or self._options.connection == "fresh":
            if self._options.connection == "kept":
                self._counts.closed += 1
            self._leave()

    def _lose(self, how: str) -> None:
        # A connection that nobody has accepted yet is reset when its listener closes.
        self._counts.lost[how if self._answers_here else f"{how} on a new connection"] += 1
        self._leave()

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def crowd(options: argparse.Namespace) -> Counts:
    """Run the clients until standard input ends."""
    tally = Counts()
    end = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, end.set)
    firsts = [asyncio.Event() for _ in range(options.clients)]
    numbers = count()
    clients = [asyncio.create_task(Client(options, tally, numbers).run(first, end)) for first in firsts]
    for first in firsts:
        await first.wait()
    print("ready", flush=True)
    await asyncio.gather(*clients)
    return tally


def main() -> None:
    """Parse the command line, run the crowd, print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--think", type=float, default=0.02)
    parser.add_argument("--connection", choices=("kept", "fresh"), default="kept")
    parser.add_argument("--method", choices=("GET", "POST"), default="GET")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--name", default="")
    print(json.dumps(asyncio.run(crowd(parser.parse_args())).to_json()))


if __name__ == "__main__":
    main()
