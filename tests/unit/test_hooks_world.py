"""Whatever becomes of hooks processes, each thing is told once and in order; the exploration would notice if not."""

from collections.abc import Callable

import pytest

from clusterd.master.hooks.decisions import steps
from clusterd.master.hooks.decisions.feed import Feed, _Silence
from clusterd.master.hooks.decisions.processes import HooksProcess, HooksSupervisor
from clusterd.master.hooks.delivery import HooksQueue
from clusterd.wire.hooks import WorkerEvent
from tests.support.hooks_world import World
from tests.support.supervisor_world import Violation

SCHEDULES = 8_000
PARTS = 4
SCHEDULES_TO_FIND_A_FAULT = 600


@pytest.mark.parametrize("part", range(PARTS))
def test_every_schedule_keeps_every_invariant(part: int) -> None:
    each = SCHEDULES // PARTS
    for seed in range(part * each, (part + 1) * each):
        World(seed).run()


def tell_again_what_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def put_back(queue: HooksQueue) -> None:
        feed = queue._feed
        entry = feed.settle()
        if entry is not None:
            feed._queue.appendleft(entry)

    monkeypatch.setattr(HooksQueue, "_cut", put_back)


def hand_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(supervisor: HooksSupervisor) -> None:
        for process in supervisor.processes.values():
            if process.generation == supervisor.serving and process.state is steps.HookState.READY:
                process.state, process.told_at = steps.HookState.TOLD, 0.0
                supervisor._actions.append(steps.Tell(process.serial))

    monkeypatch.setattr(HooksSupervisor, "_tell_one", tell)


def forget_what_happened_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore(silence: _Silence, worker_event: WorkerEvent) -> None:
        pass

    monkeypatch.setattr(_Silence, "add", ignore)


def introduce_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Feed.begin

    def begin_alone(feed: Feed) -> None:
        begin(feed)
        feed._first = type(feed._first)([feed._first[0]])

    monkeypatch.setattr(Feed, "begin", begin_alone)


def wait_for_whoever_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore(supervisor: HooksSupervisor, process: HooksProcess) -> None:
        pass

    monkeypatch.setattr(HooksSupervisor, "_kill_late", ignore)


def restart_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(supervisor: HooksSupervisor, number: int, generation: object) -> None:
        if not supervisor.processes:
            original(supervisor, number, generation)  # type: ignore[arg-type]

    original = HooksSupervisor._start_if_wanted
    monkeypatch.setattr(HooksSupervisor, "_start_if_wanted", start)


@pytest.mark.parametrize(
    "fault",
    [
        tell_again_what_was_cut,
        hand_over_at_once,
        forget_what_happened_in_silence,
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
