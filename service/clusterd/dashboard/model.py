"""The state of the service at one moment, for people: the page and `clusterctl top` show the same.

The master makes a dashboard and sends it as JSON (`plain`); clusterctl makes it again with `parse`. Times are in
seconds, memory is in bytes. What is unknown or does not apply is None.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from clusterd.dashboard.history import Activity, Point
from clusterd.records import dataclass

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a slot has no worker, and when the next one is tried."""

    reason: str
    failures: int
    retry_in: float


@dataclass(frozen=True, slots=True)
class Process:
    """One worker process."""

    generation: int
    state: str
    pid: int | None
    age: float
    in_flight: int
    connections: int
    memory: int | None


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot, with the worker that serves it or is to serve it."""

    number: int
    state: str
    """That of the worker; `backoff` or `empty` if there is none."""
    generation: int
    queue: int
    restarts: int
    activity: Activity
    rates: tuple[float, ...]
    """Requests a second over the last 15 minutes."""
    worker: Process | None = None
    others: tuple[Process, ...] = ()
    """The predecessors that have not ended yet."""
    waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of a limit is used. `unit` is `count` or `bytes`."""

    name: str
    used: int
    limit: int
    unit: str = "count"

    @property
    def share(self) -> float:
        """The part of the limit that is used, from 0 to 1."""
        return min(1.0, self.used / self.limit) if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """A slot during a rollout: `waits`, or the state of the worker of the new generation."""

    slot: int
    state: str


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """A rollout that is under way."""

    generation: int
    phase: str
    steps: tuple[Step, ...]
    """The slots; none before the first worker is replaced."""

    @property
    def replaced(self) -> int:
        """How many slots the new generation serves."""
        return sum(step.state == "ready" for step in self.steps)


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event in words. `time` is in seconds since 1970."""

    time: float
    name: str
    text: str
    is_failure: bool


@dataclass(frozen=True, slots=True)
class Totals:
    """All slots together."""

    ready: int
    wanted: int
    restarts: int
    in_flight: int
    queue: int
    connections: int
    memory: int
    activity: Activity


@dataclass(frozen=True, slots=True)
class About:
    """The service and its master."""

    instance: str | None
    host: str
    version: str
    pid: int
    at: float
    """When this dashboard was made, in seconds since 1970."""
    uptime: float
    status: str
    not_ready: str | None
    """Why requests are not answered. None if they are."""
    hooks: str | None
    """The state of the hooks process in words. None if there are no hooks."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Everything that is shown."""

    about: About
    totals: Totals
    bars: tuple[Bar, ...]
    rollout: RolloutProgress | None
    slots: tuple[Slot, ...]
    events: tuple[EventLine, ...]
    """The last ones, the newest first."""
    points: tuple[Point, ...]


def plain(value: Any) -> Any:
    """Return a dashboard, or a part of one, as JSON. `dataclasses.asdict` would take five times as long."""
    if isinstance(value, tuple):
        return [plain(each) for each in value] if value and hasattr(value[0], "__slots__") else value
    names = getattr(value, "__slots__", None)
    return value if names is None else {name: plain(getattr(value, name)) for name in names}


def parse(document: dict[str, Any]) -> Dashboard:
    """Return the dashboard that was made into `document`. Raises KeyError or TypeError for that of another version."""
    totals, rollout = document["totals"], document["rollout"]
    return Dashboard(
        about=About(**document["about"]),
        totals=Totals(**{**totals, "activity": Activity(**totals["activity"])}),
        bars=_parts(Bar, document["bars"]),
        rollout=None if rollout is None else RolloutProgress(**{**rollout, "steps": _parts(Step, rollout["steps"])}),
        slots=tuple(map(_slot, document["slots"])),
        events=_parts(EventLine, document["events"]),
        points=_parts(Point, document["points"]),
    )


def _slot(document: dict[str, Any]) -> Slot:
    worker, waiting = document["worker"], document["waiting"]
    parts = {
        "activity": Activity(**document["activity"]),
        "rates": tuple(document["rates"]),
        "worker": None if worker is None else Process(**worker),
        "others": _parts(Process, document["others"]),
        "waiting": None if waiting is None else Waiting(**waiting),
    }
    return Slot(**{**document, **parts})


def _parts(kind: type[_Part], documents: Iterable[dict[str, Any]]) -> tuple[_Part, ...]:
    return tuple(kind(**document) for document in documents)
