"""What clusterd says of connections and deaths, as it says it: who had a connection last, and what became of them."""

import re
import threading
import time
from collections import Counter
from dataclasses import dataclass

from tests.support.soak.applications import EXIT_STATUS

_CONNECTION = re.compile(r"clusterd\[(\d+)\] debug: connection (opened|kept|closed) .*peer=\S+?:(\d+) ")
_UNKNOWN = "its exit status is not known"
"""How an exit in a request of an adopted worker is told."""
_IN_ORDER = rf"exit status 0 |.*\(exit status 0\)|{_UNKNOWN}.*reason=(?!exit|signal)"
_FAILED = re.compile(rf": worker (?:failed|ended): (?!{_IN_ORDER})(.*) slot=.* pid=(\d+) reason=(\w+)")
_KILLED = re.compile(r" info: killing worker: .* pid=(\d+) ")
_CUT = re.compile(r" cut at the end of the drain .*pid=(\d+) .* peer=\S+:(\d+)")
_LOST = re.compile(r" (request|WebSocket) lost with its worker .* peer=\S+:(\d+) .*pid=(\d+)")
_MORE_LOST = re.compile(r"(\d+) more requests lost with their worker")
_DEBUG = re.compile(r"^\S+ \S+ debug: ")
UNWANTED = re.compile(r"Error(?!.*not for service)|exception was never retrieved|Fatal Python")
_EXPECTED = re.compile(r"Too many open files|SyntaxError|not for service|Errno 24|EMFILE")


@dataclass(frozen=True)
class Death:
    """A worker that has not ended by itself and in order."""

    pid: int
    how: str
    reason: str
    at: float


class Ledger:
    """Hears every line once. What is asked for each connection is forgotten when it is closed in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[int, int] = {}
        self.deaths: dict[int, Death] = {}
        self.cut: dict[int, int] = {}
        """The workers that have cut something at the end of their drains, by the port of the client."""
        self.told: Counter[str] = Counter()
        self.bare_since: list[float] = []
        """When it was told that nothing is left that could fork a worker, by time.monotonic()."""
        self.unwanted: list[str] = []

    def hear(self, line: str) -> bool:
        """Take a line of the log. Whether to keep it: what is said of each connection is too much for that."""
        with self._lock:
            if _DEBUG.match(line):
                self._hear_of_connection(line)
                return False
            self._hear_of_death(line)
            if UNWANTED.search(line) and not _EXPECTED.search(line):
                self.unwanted.append(line)
            return True

    def _hear_of_connection(self, line: str) -> None:
        if found := _CONNECTION.search(line):
            pid, what, port = int(found[1]), found[2], int(found[3])
            if what != "closed":
                self._holders[port] = pid
            elif self._holders.get(port) == pid:
                del self._holders[port]

    def _hear_of_death(self, line: str) -> None:
        if found := _FAILED.search(line):
            self.deaths[int(found[2])] = Death(int(found[2]), found[1], found[3], time.monotonic())
        elif found := _KILLED.search(line):
            self.deaths.setdefault(int(found[1]), Death(int(found[1]), "killed", "killed", time.monotonic()))
        elif found := _CUT.search(line):
            self.cut[int(found[2])] = int(found[1])
            self.told["cut"] += 1
        elif found := _LOST.search(line):
            self.told[f"{found[1]} lost"] += 1
            self._holders[int(found[2])] = int(found[3])
        elif found := _MORE_LOST.search(line):
            self.told["request lost"] += int(found[1])
        elif "its template and spare are dead" in line:
            self.bare_since.append(time.monotonic())
        elif "log records lost" in line:
            self.told["log records lost"] += 1

    def holder(self, port: int) -> int | None:
        """The worker that had the connection from this port last, unless it has closed it."""
        with self._lock:
            return self._holders.get(port)

    def deaths_since(self, moment: float) -> list[Death]:
        """Those that were told after a time of time.monotonic()."""
        with self._lock:
            return [death for death in self.deaths.values() if death.at >= moment]

    def unforeseen(self, victims: set[int]) -> list[Death]:
        """The deaths of workers that no fault has killed or stopped, and that no request has ended.

        A drain that does not end in time is no death of its own: where it was to hand over, a worker hangs.
        """
        with self._lock:
            return [
                death
                for death in self.deaths.values()
                if death.pid not in victims
                and death.how != f"exit status {EXIT_STATUS}"
                and not (death.how.startswith(_UNKNOWN) and death.reason == "exit")
                and death.reason not in ("boot_failed", "withdrawn", "drain_timeout")
            ]
