"""When a worker that drains is killed."""

from clusterd.supervisor import events
from clusterd.supervisor.actions import Fork, Kill, WorkerEnded
from clusterd.supervisor.decisions.deadlines import ENDING_SECONDS
from clusterd.supervisor.model.states import EndReason
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings

DRAIN_OVER = 100.0 + supervisor_settings(workers=1).drain


def serving_until(last: events.Event) -> tuple[Supervisor, int]:
    """A supervisor at 100.0 s, with `last` after its start, and the serial of its only worker."""
    supervisor = Supervisor()
    for event in (
        events.Start(supervisor_settings(workers=1)),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        events.WorkerHello(3, 103),
        events.WorkerReady(3),
        last,
    ):
        supervisor.step(event, 100.0)
    return supervisor, 3


def draining() -> tuple[Supervisor, int]:
    """The same with a worker that drains, which has until DRAIN_OVER."""
    return serving_until(events.StopAsked())


def killed_at(supervisor: Supervisor) -> float:
    """When the worker is killed, if nothing more happens."""
    while supervisor.wake_at is not None:
        now = supervisor.wake_at
        if any(isinstance(action, Kill) for action in supervisor.step(events.Tick(), now)):
            return now
    raise AssertionError("it is never killed")


def test_a_worker_whose_loop_turns_has_some_seconds_after_its_drain() -> None:
    supervisor, serial = draining()
    supervisor.step(events.WorkerTurned(serial, DRAIN_OVER), DRAIN_OVER + 0.2)
    assert killed_at(supervisor) == DRAIN_OVER + ENDING_SECONDS


def test_a_worker_that_could_not_run_has_it_when_it_can() -> None:
    """What it has is cut then, with a line in the log; killed before, it would be lost without one."""
    supervisor, serial = draining()
    late = DRAIN_OVER + 1.5
    assert not any(isinstance(action, Kill) for action in supervisor.step(events.Tick(), late))
    supervisor.step(events.WorkerTurned(serial, late), late)
    supervisor.step(events.WorkerTurned(serial, late + 0.2), late + 0.2)  # it lives: that alone gains it nothing
    assert killed_at(supervisor) == late + ENDING_SECONDS


def test_a_worker_whose_loop_does_not_turn_has_no_more() -> None:
    supervisor, _ = draining()
    assert killed_at(supervisor) == DRAIN_OVER + ENDING_SECONDS


def test_a_worker_that_leaves_when_a_stop_is_announced_has_not_failed() -> None:
    supervisor, serial = serving_until(events.StopAnnounced())
    done = supervisor.step(events.WorkerGone(serial, "exit status 0", code=0), 101.0)
    (ended,) = (each for each in done if isinstance(each, WorkerEnded))
    assert ended.reason is EndReason.STOP
    assert any(isinstance(each, Fork) for each in done), "clients that wait are answered before the stop"
