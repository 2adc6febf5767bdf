"""A worker that had been ready is restarted at once, within a limit; one that cannot start, after growing pauses."""

import dataclasses
import heapq
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.supervisor import actions, events
from clusterd.supervisor.model.restart_budget import RestartBudget, RestartLimit
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import EndReason
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings

pytestmark = pytest.mark.engine_independent

SETTINGS = supervisor_settings(workers=2, restart_burst=4, restart_per=2.0)
SPACING = SETTINGS.restart_per / SETTINGS.restart_burst


@pytest.mark.parametrize(
    ("burst", "per", "wanted", "spacing"),
    [
        (20, 10.0, 1, 0.5),
        (20, 10.0, 4, 0.5),
        (20, 10.0, 5, 1 / 3),
        (20, 10.0, 64, 1 / 32),
        (20, 1.0, 8, 0.05),
        (1, 3600.0, 1, 1.0),
        (1, 3600.0, 2, 1.0),
        (1, 3600.0, 3, 0.5),
    ],
)
def test_restarts_are_spaced_evenly_and_half_of_the_workers_are_tried_within_a_second(
    burst: int, per: float, wanted: int, spacing: float
) -> None:
    limit = RestartLimit.of(burst, per, wanted)
    assert limit == RestartLimit(burst, spacing)
    assert wanted / 2 <= 1 / limit.spacing


def test_a_full_budget_has_a_burst_then_one_restart_for_each_spacing() -> None:
    limit, budget, restarts = RestartLimit(3, 0.5), RestartBudget(), []
    now = 100.0
    for _ in range(6):
        now = max(now, budget.free_at(limit, now, ahead=0))
        budget = budget.after_restart(limit, now)
        restarts.append(now)
    assert restarts == [100.0, 100.0, 100.0, 100.5, 101.0, 101.5]
    assert [budget.free_at(limit, 101.5, ahead) for ahead in range(3)] == [102.0, 102.5, 103.0]
    assert [budget.free_at(limit, 200.0, ahead) for ahead in range(4)] == [199.0, 199.5, 200.0, 200.5]


@given(
    restarts=st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 1)), min_size=1, max_size=60),
    burst=st.integers(1, 5),
)
def test_the_next_restart_is_never_further_away_than_the_spacing_however_that_changes(
    restarts: list[tuple[float, float]], burst: int
) -> None:
    budget, now = RestartBudget(), 1000.0
    for pause, spacing in restarts:
        now += pause
        limit = RestartLimit(burst, spacing)
        assert budget.free_at(limit, now, ahead=0) <= now + spacing + 1e-9
        budget = budget.after_restart(limit, now)


class Drill:
    """A cluster whose workers boot in no time and die when they are told to, on a clock of its own."""

    def __init__(self, settings: Settings = SETTINGS, boots: bool = True) -> None:
        self.supervisor = Supervisor()
        self.now = 1000.0
        self.boots = boots
        self.dies_after: float | None = None
        self.forks: list[tuple[float, int]] = []
        self.ends: list[actions.WorkerEnded] = []
        self.slots: dict[int, int] = {}
        self._deaths: list[tuple[float, int, int]] = []
        self._order = itertools.count()
        self._next: list[events.Event] = []
        self.settings = settings
        self.tell(events.Start(settings))
        self.forks.clear()

    def tell(self, event: events.Event) -> list[actions.Action]:
        """Have it decided about; what was decided at once."""
        decided = self.supervisor.step(event, self.now)
        for action in decided:
            match action:
                case actions.StartTemplate(serial):
                    self._next.append(events.TemplateLoaded(serial))
                case actions.ReadConfiguration():
                    self._next.append(events.ConfigurationRead(self.settings))
                case actions.ForkSpare(serial):
                    self._next.append(events.SpareReady(serial))
                case actions.Fork(serial, _, slot):
                    self.forks.append((self.now, slot))
                    self.slots[slot] = serial
                    self._next.append(events.WorkerHello(serial, 1000 + serial))
                    self._next.append(events.WorkerReady(serial) if self.boots else events.WorkerFailed(serial, "no"))
                case actions.Serve(serial) if self.dies_after is not None:
                    heapq.heappush(self._deaths, (self.now + self.dies_after, next(self._order), serial))
                case actions.Kill(serial):
                    self._next.append(events.WorkerGone(serial, "SIGKILL", by_signal=True, code=-9))
                case actions.Retire(serial):
                    self._next.append(events.WorkerGone(serial, "exit status 0", code=0))
                case actions.WorkerEnded():
                    self.ends.append(action)
        while self._next:
            self.tell(self._next.pop(0))
        return decided

    def die(self, slot: int) -> None:
        self.tell(events.WorkerGone(self.slots[slot], "SIGSEGV", by_signal=True, code=-11))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while True:
            wake = self.supervisor.wake_at
            deaths = [at for at, _, _ in self._deaths[:1]]
            at = min([*deaths, *([wake] if wake is not None else [])], default=until)
            if at >= until:
                break
            self.now = max(self.now, at)
            if deaths == [at]:
                serial = heapq.heappop(self._deaths)[2]
                self.tell(events.WorkerGone(serial, "SIGSEGV", by_signal=True, code=-11))
            else:
                self.tell(events.Tick())
        self.now = until

    def fork_times(self) -> list[float]:
        return [round(at - 1000.0, 6) for at, _ in self.forks]


def test_a_worker_that_had_been_ready_is_restarted_at_once_until_the_burst_is_used_up() -> None:
    drill = Drill()
    for _ in range(SETTINGS.restart_burst):
        drill.die(1)
    assert drill.forks == [(1000.0, 1)] * 4
    assert [end.retry_in for end in drill.ends] == [None] * 4
    drill.die(2)
    drill.die(1)
    assert [end.retry_in for end in drill.ends[4:]] == [SPACING, 2 * SPACING]
    drill.pass_time(60)
    assert drill.forks[4:] == [(1000.0 + SPACING, 2), (1000.0 + 2 * SPACING, 1)]


def test_workers_that_keep_dying_are_restarted_evenly_and_in_turn() -> None:
    drill = Drill(dataclasses.replace(SETTINGS, workers=3))
    drill.dies_after = 0.0
    for slot in (1, 2, 3):
        drill.die(slot)
    drill.pass_time(6.0)
    times = drill.fork_times()
    assert times[:4] == [0.0] * 4
    assert times[4:] == [round(SPACING * number, 6) for number in range(1, len(times) - 3)]
    late = [slot for _, slot in drill.forks[4:]]
    assert all(len(set(late[at : at + 3])) == 3 for at in range(len(late) - 2)), "each slot gets its turn"


def test_what_cannot_start_has_growing_pauses_of_its_slot_and_spends_nothing() -> None:
    drill = Drill()
    drill.boots = False
    drill.die(1)
    drill.pass_time(8.0)
    assert drill.fork_times() == [0.0, 0.0, 0.5, 1.5, 3.5, 7.5]
    drill.boots = True
    drill.pass_time(10.0)
    forks = len(drill.forks)
    for _ in range(SETTINGS.restart_burst):
        drill.die(2)
    assert len(drill.forks) == forks + 4, "all at once"
    drill.boots = False
    drill.pass_time(60.0)
    drill.die(1)
    assert drill.ends[-2].retry_in is None and drill.ends[-1].retry_in == 0.5, "it had started: the pauses begin anew"


def test_a_hang_counts_like_a_death_and_what_somebody_kills_does_not() -> None:
    drill = Drill()
    for _ in range(10):
        drill.tell(events.WorkerKilled(drill.slots[1]))
        drill.die(1)
    assert len(drill.forks) == 10
    assert {end.reason for end in drill.ends} == {EndReason.KILLED}
    for _ in range(SETTINGS.restart_burst):
        drill.tell(events.WorkerStalled(drill.slots[1], 31.0, "hung"))
    assert len(drill.forks) == 14
    drill.tell(events.WorkerStalled(drill.slots[1], 31.0, "hung"))
    assert len(drill.forks) == 14
    assert (drill.ends[-1].reason, drill.ends[-1].retry_in) == (EndReason.HANG, SPACING)


def test_a_successful_reload_applies_a_changed_limit_and_clears_the_count() -> None:
    drill = Drill()
    for _ in range(SETTINGS.restart_burst + 1):
        drill.die(1)
    assert drill.ends[-1].retry_in == SPACING
    drill.settings = dataclasses.replace(SETTINGS, restart_burst=2)
    drill.tell(events.ReloadAsked())
    drill.pass_time(1.0)
    assert drill.supervisor.cluster.serving == 2
    before = len(drill.forks)
    for _ in range(3):
        drill.die(1)
    assert len(drill.forks) == before + 2
    assert drill.ends[-1].retry_in == 1.0


def test_a_slot_that_waits_does_not_hold_up_the_next_generation() -> None:
    drill = Drill()
    drill.boots = False
    drill.die(1)
    drill.pass_time(20.0)
    assert drill.ends[-1].retry_in == 16.0
    drill.boots = True
    drill.tell(events.ReloadAsked())
    assert drill.supervisor.cluster.serving == 2


def test_what_waits_is_forgotten_with_its_slot() -> None:
    drill = Drill(dataclasses.replace(SETTINGS, workers=4))
    for _ in range(4):
        drill.die(1)
    drill.die(4)
    drill.die(2)
    assert [end.retry_in for end in drill.ends[-2:]] == [SPACING, 2 * SPACING]
    drill.tell(events.ScaleAsked(-1))
    drill.pass_time(SPACING + 0.01)
    assert drill.forks[4:] == [(1000.0 + SPACING, 2)]
