"""Small decisions: whose turn it is to accept, how long to wait, what a look at a worker means, what a line says."""

from dataclasses import dataclass

import pytest

from clusterd.config.model import Preload
from clusterd.master.health.monitor import Monitor, Watched
from clusterd.master.health.punctuality import LATE_SECONDS, LOOK_EVERY_SECONDS
from clusterd.metrics.scoreboard import Peers
from clusterd.supervisor import events
from clusterd.supervisor.actions import Fork, Kill, WorkerEnded
from clusterd.supervisor.decisions.deadlines import LAST_WORDS_SECONDS, SILENCE_SECONDS
from clusterd.supervisor.decisions.imports import TEMPLATE_REACTIONS
from clusterd.supervisor.decisions.workers import WORKER_REACTIONS
from clusterd.supervisor.events import Event, MemoryLimitReached, RequestLimitReached, WorkerStalled
from clusterd.supervisor.model.backoff import LONGEST_DELAY, STABLE_SECONDS, Backoff
from clusterd.supervisor.model.cluster import ClusterState, FailedReload, Phase
from clusterd.supervisor.model.settings import Settings
from clusterd.supervisor.model.states import EndReason, TemplateState, WorkerState
from clusterd.supervisor.status import progress_line, status_line
from clusterd.supervisor.supervisor import Supervisor
from clusterd.worker.accepting.accept_policy import LOOP_AHEAD, Turn, decide
from tests.support.settings import limits, timeouts


@pytest.mark.parametrize(
    ("connections", "free", "peers", "turn"),
    [
        (5, True, None, Turn.ACCEPT),
        (5, False, None, Turn.ACCEPT),
        (5, True, Peers(1, 5, True), Turn.ACCEPT),
        (6, True, Peers(1, 5, True), Turn.GIVE_WAY),
        (1, True, Peers(1, 0, True), Turn.GIVE_WAY),
        (110, True, Peers(1, 100, True), Turn.ACCEPT),
        (9, True, Peers(1, 5, False), Turn.ACCEPT),
        (0, False, Peers(1, 9, True), Turn.FULL),
        (0, False, Peers(1, 9, False), Turn.ACCEPT),
        (9, False, Peers(1, 5, False), Turn.GIVE_WAY),
    ],
)
def test_whose_turn_it_is(connections: int, free: bool, peers: Peers | None, turn: Turn) -> None:
    assert decide(connections, free, peers, 0) is turn


def test_on_the_loop_a_worker_may_be_ahead_by_as_much_as_a_call_to_another_costs() -> None:
    assert decide(LOOP_AHEAD, True, Peers(1, 0, True), LOOP_AHEAD) is Turn.ACCEPT
    assert decide(LOOP_AHEAD + 1, True, Peers(1, 0, True), LOOP_AHEAD) is Turn.GIVE_WAY


def test_backoff_grows_to_its_bound_and_forgets_after_a_stable_time() -> None:
    backoff, delays = Backoff(), []
    for _ in range(10):
        backoff = backoff.after_failure(now=100.0, served=0.0)
        delays.append(backoff.not_before - 100.0)
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    assert backoff.after_failure(now=100.0, served=STABLE_SECONDS) == Backoff(1, 100.0)


@dataclass
class FakeRow:
    heartbeat: int
    progress: int
    requests: int = 0


LIMITS = limits(max_requests=100, max_memory=1000)
TIMEOUTS = timeouts(hang=10.0)


def looked_at(row: FakeRow, times: list[float], memory: int | None = 0) -> list[Event]:
    happened: list[Event] = []
    monitor = Monitor(happened.append, memory=lambda pid: memory)
    for now in times:
        watched = Watched(1, 1, 42, row, is_debugged=False, timeouts=TIMEOUTS, limits=LIMITS)  # type: ignore[arg-type]
        monitor.look([watched], now)
    return happened


def at(seconds: float) -> int:
    return int(seconds * 1e9)


def test_a_worker_is_stalled_when_its_loop_or_its_threads_are() -> None:
    assert looked_at(FakeRow(at(100), at(100)), [104.9]) == []
    [stalled] = looked_at(FakeRow(at(100), at(105)), [105.0])
    assert stalled == WorkerStalled(1, 5.0, "its event loop has not turned")
    [stalled] = looked_at(FakeRow(at(112), at(100)), [112.0])
    assert stalled == WorkerStalled(1, 12.0, "none of its threads has made progress")


def test_time_in_which_the_master_did_not_run_is_nobody_elses() -> None:
    late = 100.0 + LOOK_EVERY_SECONDS + LATE_SECONDS + 20
    assert looked_at(FakeRow(at(100), at(100)), [100.0, late]) == []
    assert looked_at(FakeRow(at(100), at(100)), [100.0, late, late + 0.25]) == []


def test_limits_are_reported_with_jitter_and_at_intervals() -> None:
    assert looked_at(FakeRow(at(100), at(100), requests=99), [100.0]) == []
    assert looked_at(FakeRow(at(100), at(100), requests=110), [100.0]) == [RequestLimitReached(1)]
    times = [100.0, 100.5, 101.0]
    assert looked_at(FakeRow(at(100), at(100)), times, memory=2000) == []
    ticks = [100.0 + LOOK_EVERY_SECONDS * number for number in range(21)]
    assert looked_at(FakeRow(at(105), at(105)), ticks, memory=2000) == [MemoryLimitReached(1, 2000, 1000)]
    assert looked_at(FakeRow(at(105), at(105)), ticks, memory=None) == []


def test_the_status_line_keeps_saying_that_a_reload_failed() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=7, wanted=0)
    assert status_line(cluster, str) == "Serving: 0 workers, generation 7"
    cluster.reloaded_at = 11.0
    assert status_line(cluster, lambda at: f"<{at}>") == "Serving: 0 workers, generation 7; reloaded at <11.0>"
    cluster.failed_reload = FailedReload(3, "SyntaxError\n at app.py:1 " + "x" * 500, 12.0)
    line = status_line(cluster, lambda at: f"<{at}>")
    assert line.startswith("Serving: 0 workers, generation 7; reload FAILED at <12.0>: SyntaxError at app.py:1 x")
    assert len(line) < 400
    assert "\n" not in line


def test_the_status_line_says_why_a_worker_is_missing() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=7, wanted=2)
    for _ in range(3):
        cluster.table.backoffs[2] = cluster.table.backoffs.get(2, Backoff()).after_failure(20.0, 0.0, "no database")
    assert status_line(cluster, lambda at: f"<{at}>") == (
        "Serving: 0 of 2 workers, generation 7; worker 2 has failed 3 times, again at <21.0>: no database"
    )


def test_a_number_of_workers_is_meant_whatever_a_rollout_would_make_of_it() -> None:
    supervisor = Supervisor()
    settings = settings_for(workers=2)
    for event in (
        events.Start(settings),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        *(events.WorkerHello(serial, 100 + serial) for serial in (3, 4)),
        *(events.WorkerReady(serial) for serial in (3, 4)),
        events.ReloadAsked(),
        events.ConfigurationRead(settings_for(workers=6)),
    ):
        supervisor.step(event, 100.0)
    rollout = supervisor.cluster.rollout
    assert rollout is not None and rollout.workers == 6
    supervisor.step(events.TemplateLoaded(5), 100.5)
    assert progress_line(supervisor.cluster, str) == (
        "Reloading: generation 2, 0 of 6 workers replaced (1 forking, 2 waits, 3 waits, 4 waits, 5 waits, 6 waits)"
    )
    supervisor.step(events.ScaleAsked(+1), 101.0)
    assert (supervisor.cluster.wanted, rollout.workers) == (3, 7)
    supervisor.step(events.CountAsked(3), 102.0)
    assert (supervisor.cluster.wanted, rollout.workers) == (3, 3)


def settings_for(workers: int) -> Settings:
    return Settings(workers, Preload.ALWAYS, 1, 60.0, 0.0, 4, 30.0, 10.0, 30.0, restart_burst=20, restart_per=10.0)


DRAIN_OVER = 100.0 + settings_for(workers=1).drain


def draining() -> tuple[Supervisor, int]:
    """A supervisor at 100.0 s, and the serial of its only worker, which has until DRAIN_OVER."""
    supervisor = Supervisor()
    for event in (
        events.Start(settings_for(workers=1)),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        events.WorkerHello(3, 103),
        events.WorkerReady(3),
        events.StopAsked(at_once=False),
    ):
        supervisor.step(event, 100.0)
    return supervisor, 3


def killed_at(supervisor: Supervisor) -> float:
    """When the worker is killed, if nothing more happens."""
    while supervisor.wake_at is not None:
        now = supervisor.wake_at
        if any(isinstance(action, Kill) for action in supervisor.step(events.Tick(), now)):
            return now
    raise AssertionError("it is never killed")


def test_a_worker_whose_loop_turns_has_a_moment_after_its_drain() -> None:
    supervisor, serial = draining()
    supervisor.step(events.WorkerTurned(serial, DRAIN_OVER), DRAIN_OVER + 0.2)
    assert killed_at(supervisor) == DRAIN_OVER + LAST_WORDS_SECONDS


def test_a_worker_that_could_not_run_has_it_when_it_can() -> None:
    """What it has is cut then, with a line in the log; killed before, it would be lost without one."""
    supervisor, serial = draining()
    late = DRAIN_OVER + 1.5
    assert not any(isinstance(action, Kill) for action in supervisor.step(events.Tick(), late))
    supervisor.step(events.WorkerTurned(serial, late), late)
    supervisor.step(events.WorkerTurned(serial, late + 0.2), late + 0.2)  # it lives: that alone gains it nothing
    assert killed_at(supervisor) == late + LAST_WORDS_SECONDS


def test_a_worker_whose_loop_does_not_turn_is_not_waited_for_much_longer() -> None:
    supervisor, _ = draining()
    assert killed_at(supervisor) == DRAIN_OVER + SILENCE_SECONDS


def test_a_worker_that_leaves_when_a_stop_is_announced_has_not_failed() -> None:
    supervisor = Supervisor()
    for event in (
        events.Start(settings_for(workers=1)),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        events.WorkerHello(3, 103),
        events.WorkerReady(3),
        events.StopAnnounced(),
    ):
        supervisor.step(event, 100.0)
    done = supervisor.step(events.WorkerGone(3, "exit status 0", code=0), 101.0)
    (ended,) = (each for each in done if isinstance(each, WorkerEnded))
    assert ended.reason is EndReason.STOP
    assert any(isinstance(each, Fork) for each in done), "clients that wait are answered before the stop"


OF_PROCESSES = [each for each in vars(events).values() if "serial" in getattr(each, "__match_args__", ())]


@pytest.mark.parametrize("event", OF_PROCESSES)
def test_every_state_says_what_it_does_with_every_event_of_a_process(event: type[events.Event]) -> None:
    workers, templates = set(WorkerState) - {WorkerState.GONE}, set(TemplateState)
    tables = [set(table[event]) for table in (WORKER_REACTIONS, TEMPLATE_REACTIONS) if event in table]
    assert tables in ([workers], [templates])
