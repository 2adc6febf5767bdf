"""Every request that a client has lost is explained by a fault, or is a finding."""

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.support.crowd import NEVER_SENT, Crowd, Loss
from tests.support.soak.scene import Scene

PATIENCE_SECONDS = 15.0
"""How long clusterd has to tell of what a client has lost: a worker that hangs is killed only after a while."""
BARE_SECONDS = 60.0
"""How long a service may be without workers whose masters are killed while it imports anew."""
STORY_LINES = 6
"""Of what a client did last: the log has the rest."""


@dataclass
class _Open:
    """A loss that is not explained yet."""

    loss: Loss
    since: float
    holders: set[int] = field(default_factory=set)


class Verdict:
    """Judges what the crowd has lost while it is fresh: ports are used again."""

    def __init__(self, crowd: Crowd, scene: Scene, scheduling: str) -> None:
        self._masters_accept = scheduling == "round_robin"
        self._crowd = crowd
        self._service = scene.service
        self._ledger = scene.service.ledger
        self._victims = scene.victims
        self._open: list[_Open] = []
        self._taken = 0
        self.wrong: list[str] = []
        self.explained: Counter[str] = Counter()

    def look(self, *, is_last: bool = False) -> None:
        """Look at what was lost since, and once more at what was not explained before."""
        now = time.monotonic()
        losses, self._taken = self._crowd.losses[self._taken :], len(self._crowd.losses)
        self._open += [_Open(loss, now) for loss in losses]
        left = []
        for each in self._open:
            how = self._explanation(each)
            if how is not None:
                self.explained[how] += 1
            elif is_last or now - each.since > PATIENCE_SECONDS:
                self.wrong.append(
                    "\n    ".join([f"{each.loss}, held by {each.holders}", *each.loss.story[-STORY_LINES:]])
                )
            else:
                left.append(each)
        self._open = left

    @property
    def is_pending(self) -> bool:
        """Whether something is not explained yet, and may be."""
        return bool(self._open) or self._taken < len(self._crowd.losses)

    def _explanation(self, each: _Open) -> str | None:
        loss = each.loss
        holder = self._ledger.holder(loss.port)
        if holder is not None:
            each.holders.add(holder)
        if each.holders & (self._ledger.deaths.keys() | self._victims):
            return "with a worker that has died"
        if self._ledger.cut.get(loss.port) in self._ledger.deaths:
            return "cut by a worker that could not drain"
        if loss.was_told and not loss.has_begun:
            return "none: the response before had told that it is the last"
        if not loss.has_begun and (not loss.token or NEVER_SENT in loss.how):
            return "none: the connection was closed between two requests"
        if "TimeoutError" in loss.how and any(at > each.since - BARE_SECONDS for at in self._ledger.bare_since):
            return "not answered in time, as the application was imported anew after all processes had been killed"
        if self._masters_accept and not each.holders and self._master_died_since(each.since - PATIENCE_SECONDS):
            return "with a master that had accepted its connection, and no worker had it"
        unread = self._service.read_again_at > each.since - 2 * PATIENCE_SECONDS
        if (unread or not each.holders) and self._ledger.deaths_since(each.since - PATIENCE_SECONDS):
            return "with a worker that has died before it could tell of the connection"
        return None

    def _master_died_since(self, moment: float) -> bool:
        return any(at > moment for at in self._service.masters_killed)


_TOLERATED = {
    "HTTP/1.1 507": "507 without descriptors for a body",
    "told to come again": "told to come again, as nobody could take the connection over",
}
_FEW = {"HTTP/1.1 503": "503 of workers that were started while the master had no descriptors"}
"""They have inherited its limit, and say so."""


def sort_out(crowd: Crowd, *, had_few: bool) -> tuple[list[str], Counter[str]]:
    """What the clients found wrong, and how often they were told what a shortage makes inevitable."""
    tolerable = {**_TOLERATED, **(_FEW if had_few else {})}
    wrong, tolerated = [], Counter[str]()
    for each in crowd.wrong:
        if kind := next((what for mark, what in tolerable.items() if mark in each), None):
            tolerated[kind] += 1
        else:
            wrong.append(each)
    return wrong, tolerated
