"""How many workers a range should have now (`workers: {min: 2, max: 8}`), from what the workers were seen to do.

More are wanted as soon as two looks in a row have shown that the present ones are used over GROW_ABOVE. Fewer are
wanted when SHRINK_BELOW would not have been exceeded with them for `workers.shrink_after`. The distance between the two
is the hysteresis: the workers that are left after a shrinking are used so little that the same load adds none again.
"""

import math
from dataclasses import replace

from clusterd.records import dataclass
from clusterd.supervisor.model.load import Load, ScaleCause

GROW_ABOVE = 0.8
SHRINK_BELOW = 0.6
MOST_GROWTH = 2
"""At most this many times the present workers are wanted by one decision. So a mistaken one does not cost much."""
SMOOTHED_SECONDS = 0.3
"""The time constant of the mean, which keeps a single moment from deciding."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Between which numbers to decide, and what is wanted now."""

    least: int
    most: int
    wanted: int
    shrink_after: float
    """In seconds."""
    may_shrink: bool
    """False while workers are being started or replaced: what they do then says little, and the others are needed."""


@dataclass(frozen=True, slots=True)
class Trend:
    """What the looks so far have shown. Times are in seconds, on the clock of `decide`."""

    at: float | None = None
    """When the last look was; None before the first."""
    demand: float = 0.0
    """That of the last look (`Load.demand`)."""
    smoothed: float = 0.0
    low_since: float | None = None
    """Since when fewer workers would be enough; None if they would not."""
    peak: float = 0.0
    """The greatest smoothed demand since then."""


UNSEEN = Trend()
"""Nothing was seen yet."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Another number of workers, and why, for programs and in words."""

    workers: int
    cause: ScaleCause
    reason: str


def decide(trend: Trend, load: Load, situation: Situation, now: float) -> tuple[Trend, Decision | None]:
    """Take in one look. Returns what is known now, and a decision if another number of workers is wanted."""
    if not load.workers:
        return UNSEEN, None
    if trend.at is None:
        smoothed, sustained = load.demand, 0.0
    else:
        share = 1 - math.exp(-max(0.0, now - trend.at) / SMOOTHED_SECONDS)
        smoothed = trend.smoothed + share * (load.demand - trend.smoothed)
        sustained = min(load.demand, trend.demand, smoothed)
    seen = replace(trend, at=now, demand=load.demand, smoothed=smoothed)
    wanted = min(_enough(sustained, GROW_ABOVE), situation.wanted * MOST_GROWTH, situation.most)
    if wanted > situation.wanted:
        return _not_low(seen), Decision(wanted, load.cause, load.words())
    return _shrink(seen, situation, now)


def _shrink(trend: Trend, situation: Situation, now: float) -> tuple[Trend, Decision | None]:
    if not situation.may_shrink or _fewer(trend.smoothed, situation) >= situation.wanted:
        return _not_low(trend), None
    since = now if trend.low_since is None else trend.low_since
    peak = max(trend.peak, trend.smoothed)
    if now - since < situation.shrink_after:
        return replace(trend, low_since=since, peak=peak), None
    # Half of them at most: the others take over what the half leaves, and what that costs is seen before more go.
    workers = max(_fewer(peak, situation), -(-situation.wanted // 2))
    reason = f"for {situation.shrink_after:g} s at most {100 * peak / situation.wanted:.0f} % of them was used"
    return _not_low(trend), Decision(workers, ScaleCause.IDLE, reason)


def _fewer(demand: float, situation: Situation) -> int:
    return max(_enough(demand, SHRINK_BELOW), situation.least)


def _enough(demand: float, used: float) -> int:
    """How many workers are used up to `used` by `demand`."""
    return math.ceil(demand / used)


def _not_low(trend: Trend) -> Trend:
    return replace(trend, low_since=None, peak=0.0)
