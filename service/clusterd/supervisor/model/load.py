"""How much of what the workers can do is used at one moment, and what waits for them."""

from collections.abc import Iterable
from enum import StrEnum

from clusterd.records import dataclass

SATURATED = 0.9
"""A worker that is busier than this does not say how much waits for it in the connections that it cannot read."""
UNKNOWN_DEMAND = 2
"""How many workers' work it is assumed to have then, if so many clients are connected to it."""
UNKNOWN_DEMAND_IF_LATE = 4
"""The same if its event loop has not turned for long: either many requests wait in it, or one blocks all others."""


class ScaleCause(StrEnum):
    """Why the number of workers changes: the `reason` in metrics and the `cause` in events."""

    BACKLOG = "backlog"
    """Connections wait in the queue of a listening socket."""
    QUEUE = "queue"
    """Requests wait for a thread."""
    THREADS = "threads"
    """The threads are busy."""
    CONNECTIONS = "connections"
    """The workers hold nearly as many connections as they may."""
    LOOP = "loop"
    """The event loops, or the interpreters, are busy."""
    IDLE = "idle"
    """Fewer workers have been enough for `workers.shrink_after`."""
    ASKED = "asked"
    """An operator or a program has asked for it."""
    RELOAD = "reload"
    """A reload has changed the setting `workers`."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one ready worker does. `busy` is the part of the time in which its event loop or interpreter worked."""

    busy: float
    jobs: int
    """Calls of the application that run or wait. 0 if it runs on the event loop."""
    threads: int
    """0 if the application runs on the event loop."""
    connections: int
    connections_limit: int
    is_late: bool = False
    """Its event loop has missed a tick."""

    @property
    def used(self) -> float:
        """The part of what the worker can do that is used; more than 1 if requests wait in it."""
        threads = self.jobs / self.threads if self.threads else 0.0
        connections = self.connections / self.connections_limit if self.connections_limit else 0.0
        most = UNKNOWN_DEMAND_IF_LATE if self.is_late else UNKNOWN_DEMAND
        assumed = max(1, min(self.connections, most)) if self.busy >= SATURATED else 1
        return max(self.busy * assumed, threads, connections)


@dataclass(frozen=True, slots=True)
class Load:
    """What all ready workers do together. The sums of nothing are 0."""

    workers: int = 0
    demand: float = 0.0
    """How many workers this would use fully."""
    busy: float = 0.0
    """The sum of `WorkerLoad.busy`."""
    threads: int = 0
    threads_busy: int = 0
    queue: int = 0
    """Requests that wait for a thread."""
    backlog: int = 0
    """Connections that no process has accepted, or that the master has not dispatched."""
    connections: int = 0
    connections_limit: int = 0

    @property
    def cause(self) -> ScaleCause:
        """Which of its parts asks for more workers most plainly."""
        if self.backlog:
            return ScaleCause.BACKLOG
        if self.queue:
            return ScaleCause.QUEUE
        shares = (
            (self.busy / max(1, self.workers), ScaleCause.LOOP),
            (self.threads_busy / max(1, self.threads), ScaleCause.THREADS),
            (self.connections / max(1, self.connections_limit), ScaleCause.CONNECTIONS),
        )
        return max(shares)[1]

    def words(self) -> str:
        """The same in words, with the numbers."""
        match self.cause:
            case ScaleCause.BACKLOG:
                return f"{_plural(self.backlog, 'connection')} to be accepted"
            case ScaleCause.QUEUE:
                return f"{_plural(self.queue, 'request')} for a thread"
            case ScaleCause.THREADS:
                return f"{self.threads_busy} of {self.threads} threads are busy"
            case ScaleCause.CONNECTIONS:
                return f"{self.connections} of {self.connections_limit} connections are open"
            case _:
                return f"the workers are busy {100 * self.busy / max(1, self.workers):.0f} % of the time"


def load_of(workers: Iterable[WorkerLoad], backlog: int) -> Load:
    """Add up the ready workers, and the connections that wait for them."""
    count = threads = threads_busy = queue = connections = limit = 0
    demand = busy = 0.0
    for each in workers:
        count += 1
        demand += each.used
        busy += each.busy
        threads += each.threads
        threads_busy += min(each.jobs, each.threads)
        queue += max(0, each.jobs - each.threads)
        connections += each.connections
        limit += each.connections_limit
    if count:
        demand += backlog / max(1.0, threads / count)
    return Load(count, demand, busy, threads, threads_busy, queue, backlog, connections, limit)


def _plural(count: int, what: str) -> str:
    return f"{count} {what} waits" if count == 1 else f"{count} {what}s wait"
