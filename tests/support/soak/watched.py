"""A service whose master may die. Its log is heard line by line, or not at all while the test is not to read it."""

import threading
import time
from dataclasses import dataclass, field

from tests.support.managed import ManagedService
from tests.support.soak.ledger import Ledger


@dataclass
class WatchedService(ManagedService):
    """Keeps what is not said of each connection."""

    ledger: Ledger = field(default_factory=Ledger)
    reading: threading.Event = field(default_factory=threading.Event)
    """Cleared, the pipe of the log fills up."""
    read_again_at: float = float("-inf")
    """When it was read again, by time.monotonic(): a worker that was killed before may have told of nothing."""

    masters_killed: list[float] = field(default_factory=list)
    """When, by time.monotonic()."""

    def __post_init__(self) -> None:
        self.reading.set()
        super().__post_init__()

    def stop_reading(self) -> None:
        """Have the pipe of the log fill up."""
        self.reading.clear()

    def read_on(self) -> None:
        """Read all of it again."""
        self.read_again_at = time.monotonic()
        self.reading.set()

    def _read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        with self.process.stdout as output:
            while self.reading.wait() and (line := output.readline()):
                line = line.rstrip("\n")
                if self.ledger.hear(line):
                    with self._news:
                        self.lines.append(line)
                        self._news.notify_all()
        with self._news:
            self._news.notify_all()
