"""The state of the supervisor survives the program: the next one decides just as the last one would have."""

import json
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from clusterd.supervisor import events
from clusterd.supervisor.model.cluster import ClusterState
from clusterd.supervisor.model.plain import PlainError, from_plain, to_plain
from clusterd.supervisor.snapshot import SnapshotError, restore, snapshot
from tests.support.supervisor_world import World

pytestmark = pytest.mark.engine_independent

SCHEDULES = 1000
EXIT_STATUS = re.compile(r"<ExitStatus\.\w+: (\d+)>")
"""The name of a status does not survive, its number does."""


def said_in(world: World) -> list[str]:
    return [EXIT_STATUS.sub(r"\1", line) for line in world.history]


class SucceededWorld(World):
    """Another program takes over after each step, and after the Tick with which that begins."""

    def step(self, event: events.Event) -> None:
        super().step(event)
        wake_at, document = self.supervisor.wake_at, json.dumps(snapshot(self.supervisor.cluster))
        self.supervisor = restore(json.loads(document))
        assert self.supervisor.step(events.Tick(), self.now) == []
        assert self.supervisor.wake_at == wake_at
        assert json.dumps(snapshot(self.supervisor.cluster)) == document


def test_the_next_program_decides_as_the_last_one_would_have() -> None:
    for seed in range(SCHEDULES):
        world, succeeded = World(seed), SucceededWorld(seed)
        world.run()
        succeeded.run()
        assert said_in(succeeded) == said_in(world)


@pytest.mark.parametrize("damaged", [None, 7, [], {}, {"version": 2, "cluster": {}}, {"version": True, "cluster": {}}])
def test_another_version_is_refused_in_one_line(damaged: Any) -> None:
    with pytest.raises(SnapshotError, match=r"^the state is of version .*, and this clusterd reads version 1$"):
        restore(damaged)


def damaged_snapshots() -> list[Any]:
    whole = snapshot(ClusterState())
    cluster = whole["cluster"]
    changed: list[Any] = [
        {**cluster, "phase": "asleep"},
        {**cluster, "wanted": "two"},
        {**cluster, "wanted": True},
        {**cluster, "restarts": [[1]]},
        {**cluster, "surprise": 1},
        {**cluster, "table": {**cluster["table"], "workers": [[1, {"serial": 1}]]}},
        {**cluster, "suspects": {"deaths": [[1.0]]}},
        [],
        None,
    ]
    return [{**whole, "cluster": each} for each in changed]


@pytest.mark.parametrize("damaged", damaged_snapshots(), ids=str)
def test_a_damaged_snapshot_is_refused_in_one_line(damaged: Any) -> None:
    with pytest.raises(SnapshotError, match=r"^the state cannot be read: ClusterState[^\n]+$"):
        restore(damaged)


class Colour(Enum):
    """For the tests of plain values."""

    RED = "red"


@dataclass(frozen=True)
class Thing:
    """One field of each kind."""

    number: int
    share: float
    colour: Colour
    words: tuple[str, ...] = ()
    pair: tuple[int, str] = (0, "")
    by_number: dict[int, "Thing"] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    maybe: float | None = None
    anything: Any = None


def test_plain_values_come_back_as_they_were() -> None:
    inner = Thing(1, 0.5, Colour.RED)
    thing = Thing(2, 3.0, Colour.RED, ("a", "b"), (4, "c"), {7: inner}, frozenset({"x"}), 1.5, {"k": [None]})
    assert from_plain(Thing, json.loads(json.dumps(to_plain(thing)))) == thing
    assert from_plain(Thing, {"number": 1, "share": 1, "colour": "red"}) == Thing(1, 1.0, Colour.RED)


def test_what_has_no_plain_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="object has no plain form"):
        to_plain(object())


def test_the_error_says_where_the_document_is_wrong() -> None:
    good = to_plain(Thing(1, 1.0, Colour.RED))
    with pytest.raises(PlainError, match=r"^Thing\.by_number\[3\]: number is missing$"):
        from_plain(Thing, {**good, "by_number": [[3, {}]]})
    with pytest.raises(PlainError, match=r"^Thing\.pair: found 1 values, expected 2$"):
        from_plain(Thing, {**good, "pair": [1]})
