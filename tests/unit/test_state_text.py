"""The text of the state is made anew in parts, and is always that of the whole."""

import json
from dataclasses import replace

import pytest

from clusterd.master.takeover.state import MasterState
from clusterd.master.takeover.state_text import Memo, StateText
from clusterd.metrics.shared.row import Totals
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.plain import to_plain
from clusterd.supervisor.snapshot import snapshot_of_values
from tests.support.supervisor_world import World
from tests.unit.test_inheritance import state, worker

pytestmark = pytest.mark.engine_independent

SCHEDULES = 25


class WritingWorld(World):
    """Writes the state after each step, with the actions, as the master does."""

    def write(self, decided: list[actions.Action]) -> None:
        cluster = self.supervisor.cluster
        children = tuple(worker(each, each, is_kept=each % 2 == 0) for each in cluster.table.workers)
        counted = replace(LEFT.counted, totals={each.slot: Totals() for each in cluster.table.workers.values()})
        state = replace(LEFT, cluster=snapshot_of_values(cluster, decided), children=children, counted=counted)
        assert json.loads(TEXT.of(state)) == json.loads(json.dumps(to_plain(state))), self.seed

    def carry_out(self, decided: list[actions.Action]) -> None:
        self.write(decided)
        super().carry_out(decided)
        self.write([])


LEFT: MasterState = state()
TEXT = StateText()


def test_it_is_that_of_the_whole_after_every_step() -> None:
    for seed in range(SCHEDULES):
        WritingWorld(seed).run()


def test_only_what_has_changed_is_made_anew() -> None:
    world, made = World(1), list[int]()
    world.step(events.Start(world.settings()))
    memo: Memo[int] = Memo()

    def look(value: list[int]) -> int:
        def make() -> int:
            made.append(sum(value))
            return made[-1]

        return memo.made(value, tuple(value), make)

    one, two = [1, 2], [3, 4]
    for _ in range(3):
        memo.begin()
        assert (look(one), look(two)) == (3, 7)
    assert made == [3, 7]
    one.append(5)
    memo.begin()
    assert (look(one), look(two)) == (8, 7)
    assert made == [3, 7, 8]
    for _ in range(2):  # What is not asked for in a round is forgotten, and so is the value.
        memo.begin()
    look(two)
    assert made == [3, 7, 8, 7]
