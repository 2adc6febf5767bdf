"""Whatever becomes of hooks processes, each thing is told once and in order; the exploration would notice if not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clusterd.master.hooks.decisions import steps
from clusterd.master.hooks.decisions.feed import Entry, Feed, Snapshot
from clusterd.master.hooks.decisions.processes import HooksSupervisor
from clusterd.wire.hooks import WorkerEvent
from tests.support.hooks_world import MOST_EVENTS, World
from tests.support.supervisor_world import Violation

pytestmark = pytest.mark.engine_independent

SCHEDULES = 8_000
PARTS = 4
SCHEDULES_TO_FIND_A_FAULT = 600


@pytest.mark.parametrize("part", range(PARTS))
def test_every_schedule_keeps_every_invariant(part: int) -> None:
    each = SCHEDULES // PARTS
    for seed in range(part * each, (part + 1) * each):
        World(seed).run()


def tell_again_what_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    settle, begin = Feed.settle, Feed.begin
    last: dict[Feed, Entry | Snapshot | None] = {}

    def remember(feed: Feed) -> Entry | Snapshot | None:
        last[feed] = settle(feed)
        return last[feed]

    def begin_with_it(feed: Feed) -> None:
        begin(feed)
        if isinstance(entry := last.get(feed), Entry):
            feed.add_event(entry.worker_event)

    monkeypatch.setattr(Feed, "settle", remember)
    monkeypatch.setattr(Feed, "begin", begin_with_it)


def forget_what_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    add_event = Feed.add_event

    def add(feed: Feed, worker_event: WorkerEvent) -> bool:
        return feed.waiting < MOST_EVENTS and add_event(feed, worker_event)

    monkeypatch.setattr(Feed, "add_event", add)


def introduce_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Feed.take

    def take_without_workers(feed: Feed) -> Entry | Snapshot | None:
        entry = take(feed)
        return replace(entry, workers=()) if isinstance(entry, Snapshot) and entry.is_beginning else entry

    monkeypatch.setattr(Feed, "take", take_without_workers)


def change_actions(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[HooksSupervisor, list[steps.Action]], list[steps.Action]]
) -> None:
    step = HooksSupervisor.step

    def changed(supervisor: HooksSupervisor, event: steps.Event, now: float) -> list[steps.Action]:
        return change(supervisor, list(step(supervisor, event, now)))

    monkeypatch.setattr(HooksSupervisor, "step", changed)


def hand_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(supervisor: HooksSupervisor, actions: list[steps.Action]) -> list[steps.Action]:
        for process in supervisor.processes.values():
            if process.generation == supervisor.serving and process.state is steps.HookState.READY:
                process.state, process.told_at = steps.HookState.TOLD, 0.0
                actions.append(steps.Tell(process.serial))
        return actions

    change_actions(monkeypatch, tell)


def wait_for_whoever_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    change_actions(monkeypatch, lambda _, actions: [each for each in actions if not isinstance(each, steps.Kill)])


def restart_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    started: set[tuple[HooksSupervisor, int]] = set()

    def start_once(supervisor: HooksSupervisor, actions: list[steps.Action]) -> list[steps.Action]:
        kept = []
        for action in actions:
            if isinstance(action, steps.Start):
                if (supervisor, action.generation) in started:
                    continue
                started.add((supervisor, action.generation))
            kept.append(action)
        return kept

    change_actions(monkeypatch, start_once)


@pytest.mark.parametrize(
    "fault",
    [
        tell_again_what_was_cut,
        hand_over_at_once,
        forget_what_was_dropped,
        introduce_nobody,
        wait_for_whoever_is_late,
        restart_nobody,
    ],
)
def test_a_fault_is_found(monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None]) -> None:
    fault(monkeypatch)
    with pytest.raises((Violation, KeyError)):
        for seed in range(SCHEDULES_TO_FIND_A_FAULT):
            World(seed).run()
