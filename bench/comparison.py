"""Throughput side by side: every server of a scenario in turn, round by round, and the medians of the rounds.

These machines change their speed from minute to minute: what counts is the ratio within a round, and its median.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
