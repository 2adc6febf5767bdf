"""The last 15 minutes of the service in numbers: rates, latencies, errors, load and memory.

Counters are read every few seconds. What happened between two readings is their difference, also for the durations: the
difference of two histograms is the histogram of the time between them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate

from clusterd.records import dataclass

SAMPLE_SECONDS = 5.0
"""The time between two readings that are kept."""
SAMPLES = 180
"""15 minutes."""
MINUTE_SAMPLES = 12
"""The readings that are kept whole: those of the last minute."""
SLOT_SAMPLES = 4
"""The rates of a slot are over this many readings, 20 seconds, so that many slots cost little."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the workers of a slot have counted up to a reading. The numbers only grow."""

    requests: int = 0
    errors: int = 0
    """Responses of the class 5xx."""
    buckets: tuple[int, ...] = ()
    """Requests by duration, not cumulative: one count for each bound, and one for longer durations."""
    cpu_seconds: float = 0.0

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was counted since `earlier`."""
        buckets = earlier.buckets or (0,) * len(self.buckets)
        return Counters(
            self.requests - earlier.requests,
            self.errors - earlier.errors,
            tuple(map(int.__sub__, self.buckets, buckets)),
            # A process that has just been reaped may be missing from one of the two.
            max(0.0, self.cpu_seconds - earlier.cpu_seconds),
        )

    def __add__(self, other: "Counters") -> "Counters":
        if not self.buckets or not other.buckets:
            return self if self.buckets else other
        return Counters(
            self.requests + other.requests,
            self.errors + other.errors,
            tuple(map(int.__add__, self.buckets, other.buckets)),
            self.cpu_seconds + other.cpu_seconds,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """All slots at one moment. `at` is in seconds, as time.monotonic()."""

    at: float
    counters: Mapping[int, Counters]
    """By slot. Slots that were scaled away stay, because their counts belong to the total."""
    in_flight: int
    queue: int
    memory: int

    def since(self, earlier: "Reading") -> dict[int, Counters]:
        """Return what each slot has counted since `earlier`."""
        return {slot: now.since(earlier.counters.get(slot, Counters())) for slot, now in self.counters.items()}


@dataclass(frozen=True, slots=True)
class Point:
    """The service between two readings. `p50` and `p99` are in seconds, and None if no request was answered."""

    rate: float
    """Requests answered in a second."""
    errors: float
    """Responses of the class 5xx in a second."""
    p50: float | None
    p99: float | None
    in_flight: int
    queue: int
    memory: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What a slot, or all of them together, does now: `rate` and `cpu` over some seconds, the rest over a minute."""

    rate: float | None = None
    """Requests answered in a second. None until there are two readings."""
    cpu: float | None = None
    """CPU seconds used in a second."""
    requests: int = 0
    errors: int = 0
    """Responses of the class 5xx."""
    p50: float | None = None
    p99: float | None = None
    """Durations in seconds. None if no request was answered."""


class History:
    """Keeps a point for each of the last SAMPLES readings, and the readings of the last minute.

    `bounds` are the upper bounds of the buckets in seconds.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._readings: deque[Reading] = deque(maxlen=MINUTE_SAMPLES + 1)
        self._points: deque[Point] = deque(maxlen=SAMPLES)
        self._added = 0
        self._rates: dict[int, deque[float]] = {}

    @property
    def points(self) -> tuple[Point, ...]:
        """The last points, the oldest first."""
        return tuple(self._points)

    def rates(self, slot: int) -> tuple[float, ...]:
        """Return the requests a second of a slot over the last 15 minutes, one for each SLOT_SAMPLES readings."""
        return tuple(self._rates.get(slot, ()))

    def add(self, reading: Reading, slots: Sequence[int]) -> None:
        """Keep `reading`, and a point for the time since the last one. `slots` are those whose rates are kept."""
        if self._readings:
            last = self._readings[-1]
            seconds = max(0.001, reading.at - last.at)
            counted = reading.since(last)
            together = sum(counted.values(), start=Counters())
            self._points.append(
                Point(
                    round(together.requests / seconds, 2),
                    round(together.errors / seconds, 2),
                    self._quantile(together, 0.5),
                    self._quantile(together, 0.99),
                    reading.in_flight,
                    reading.queue,
                    reading.memory,
                )
            )
            if self._added % SLOT_SAMPLES == 0:
                self._add_rates(reading, self._readings[-SLOT_SAMPLES], slots)
        self._readings.append(reading)
        self._added += 1

    def _add_rates(self, reading: Reading, earlier: Reading, slots: Sequence[int]) -> None:
        seconds = max(0.001, reading.at - earlier.at)
        counted = reading.since(earlier)
        self._rates = {slot: self._rates.get(slot) or deque(maxlen=SAMPLES // SLOT_SAMPLES) for slot in slots}
        for slot, rates in self._rates.items():
            rates.append(round(counted.get(slot, Counters()).requests / seconds, 2))

    def activity(self, now: Reading) -> tuple[dict[int, Activity], Activity]:
        """Return what each slot does, and all together. `now` is not kept."""
        if not self._readings:
            return dict.fromkeys(now.counters, Activity()), Activity()
        # The last reading may be a moment old, and a rate over a moment says little.
        before = next(
            (each for each in reversed(self._readings) if now.at - each.at >= SAMPLE_SECONDS), self._readings[0]
        )
        seconds = now.at - before.at
        lately, minute = now.since(before), now.since(self._readings[0])
        together = sum(lately.values(), start=Counters()), sum(minute.values(), start=Counters())
        of_slots = {slot: self._activity(lately[slot], minute[slot], seconds) for slot in now.counters}
        return of_slots, self._activity(*together, seconds)

    def _activity(self, lately: Counters, minute: Counters, seconds: float) -> Activity:
        return Activity(
            rate=round(lately.requests / seconds, 1) if seconds > 0 else None,
            cpu=round(lately.cpu_seconds / seconds, 3) if seconds > 0 else None,
            requests=minute.requests,
            errors=minute.errors,
            p50=self._quantile(minute, 0.5),
            p99=self._quantile(minute, 0.99),
        )

    def _quantile(self, counted: Counters, share: float) -> float | None:
        value = quantile(counted.buckets, self._bounds, share)
        return None if value is None else float(f"{value:.3g}")


def quantile(buckets: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the duration below which `share` of the requests stayed. None if there were none.

    Within a bucket it is interpolated, as Prometheus's histogram_quantile does it. Above the last bound nothing is
    known, so the last bound is returned.
    """
    rank = share * sum(buckets)
    if rank <= 0:
        return None
    edges = (0.0, *bounds)
    for number, (count, reached) in enumerate(zip(buckets, accumulate(buckets), strict=True)):
        if reached >= rank and count:
            if number == len(bounds):
                break
            return edges[number] + (edges[number + 1] - edges[number]) * (1 - (reached - rank) / count)
    return bounds[-1]
