"""Limits how many equal records are written in a second. It decides only: the clock is handed in."""

from clusterd.log.record import Level
from clusterd.records import dataclass

SECONDS = 1.0
"""The time in which equal records are counted."""
MOST_KINDS = 512
"""How many different records are told apart at a time. Beyond that, those of one level count as equal."""
OTHERS = "records of many kinds"
MOST_CHARACTERS = 500
"""What is kept of the text of a kind: the text may be long, and another one each time."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """`count` records of a level like `what` were left out."""

    level: Level
    what: str
    count: int


class _Second:
    """What has come of one kind since `began`."""

    __slots__ = ("began", "count", "what")

    def __init__(self, began: float, what: str) -> None:
        self.began = began
        self.what = what[:MOST_CHARACTERS]
        self.count = 0


class Repeats:
    """Admits the first `limit` equal records of each second, and counts the others. 0 admits all.

    Records are equal if their level and their `alike` are (log/record.py), whatever their fields say.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kinds: dict[tuple[Level, str], _Second] = {}
        self._over: list[LeftOut] = []
        """What was left out in seconds that are over, and was not reported yet."""
        self.due = float("inf")
        """When the first report is due."""
        self.left_out = 0
        """How many records were not admitted, in all."""

    def admits(self, level: Level, alike: str, what: str, now: float) -> bool:
        """Whether to write a record. `what` shows it in a report."""
        if not self._limit:
            return True
        if len(alike) > MOST_CHARACTERS:
            alike = f"{alike[:MOST_CHARACTERS]} {hash(alike)}"
        if (level, alike) not in self._kinds and len(self._kinds) >= MOST_KINDS:
            self._forget(now)
            if len(self._kinds) >= MOST_KINDS:
                alike = what = OTHERS
        kind = self._kinds.get((level, alike))
        if kind is None or now - kind.began >= SECONDS:
            if kind is not None:
                self._close(level, kind)
            self._kinds[level, alike] = kind = _Second(now, what)
        kind.count += 1
        if kind.count <= self._limit:
            return True
        self.left_out += 1
        self.due = min(self.due, kind.began + SECONDS)
        return False

    def _forget(self, now: float) -> None:
        """Forget the kinds whose second is over."""
        for key, kind in list(self._kinds.items()):
            if now - kind.began >= SECONDS:
                self._close(key[0], kind)
                self._kinds.pop(key, None)  # A signal handler that logs may have been here before.

    def _close(self, level: Level, kind: _Second) -> None:
        if kind.count > self._limit:
            self._over.append(LeftOut(level, kind.what, kind.count - self._limit))

    def reports(self, now: float) -> list[LeftOut]:
        """Return what was left out in the seconds that are over, once."""
        if now < self.due:
            return []
        self._forget(now)
        over, self._over = self._over, []
        full = [kind.began + SECONDS for kind in list(self._kinds.values()) if kind.count > self._limit]
        self.due = min(full, default=float("inf"))
        return over
