"""How the service leaves the rotation of load balancers, and comes back."""

import pytest

from clusterd.supervisor import actions, events
from clusterd.supervisor.decisions.rotation import is_to_be_announced
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.rotation import Rotation
from clusterd.supervisor.status import status_line
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings

BEGUN = 100.0
ANNOUNCE = 5.0


def serving(*, announce: float = ANNOUNCE, is_drained: bool = False) -> Supervisor:
    """One worker serves since BEGUN."""
    supervisor = Supervisor()
    for event in (
        events.Start(supervisor_settings(workers=1, announce=announce), is_drained=is_drained),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        events.WorkerHello(3, 103),
        events.WorkerReady(3),
    ):
        supervisor.step(event, BEGUN)
    assert supervisor.cluster.phase is Phase.RUNNING
    return supervisor


def test_a_service_that_is_drained_announces_it_first_and_then_closes_connections() -> None:
    supervisor = serving()
    assert supervisor.step(events.DrainAsked(), BEGUN) == [
        actions.RotationChanged(Rotation.LEAVING, is_drained=True, stops=False, seconds=ANNOUNCE)
    ]
    assert supervisor.wake_at == BEGUN + ANNOUNCE
    assert supervisor.step(events.DrainAsked(), BEGUN + 1) == []  # It does not begin anew.
    assert supervisor.step(events.Tick(), BEGUN + ANNOUNCE) == [
        actions.RotationChanged(Rotation.OUT, is_drained=True, stops=False, seconds=0.0),
        actions.SetKeepAlive(3, is_on=False),
    ]
    assert supervisor.step(events.UndrainAsked(), BEGUN + 9) == [
        actions.RotationChanged(Rotation.IN, is_drained=False, stops=False, seconds=0.0),
        actions.SetKeepAlive(3, is_on=True),
    ]


def test_a_drain_that_is_taken_back_while_it_is_announced_closes_nothing() -> None:
    supervisor = serving()
    supervisor.step(events.DrainAsked(), BEGUN)
    (change,) = supervisor.step(events.UndrainAsked(), BEGUN + 1)
    assert change == actions.RotationChanged(Rotation.IN, is_drained=False, stops=False, seconds=0.0)
    assert supervisor.step(events.Tick(), BEGUN + ANNOUNCE) == []


def test_a_stop_is_announced_and_begins_once() -> None:
    supervisor = serving()
    assert is_to_be_announced(supervisor.cluster, events.Urgency.DRAIN)
    (change,) = supervisor.step(events.DrainAsked(stops=True), BEGUN)
    assert change == actions.RotationChanged(Rotation.LEAVING, is_drained=False, stops=True, seconds=ANNOUNCE)
    line = status_line(supervisor.cluster, lambda at: f"<{at:g}>")
    assert line.endswith("leaving the rotation of load balancers, stops at <105>")
    assert supervisor.step(events.UndrainAsked(), BEGUN + 1) == []  # A stop is not taken back.
    decided = supervisor.step(events.Tick(), BEGUN + ANNOUNCE)
    out = actions.RotationChanged(Rotation.OUT, is_drained=False, stops=True, seconds=0.0)
    assert decided == [out, actions.BeginStop()]
    assert not is_to_be_announced(supervisor.cluster, events.Urgency.DRAIN)
    assert supervisor.step(events.Tick(), BEGUN + ANNOUNCE + 1) == []


def test_what_has_been_drained_for_long_stops_at_once() -> None:
    supervisor = serving()
    supervisor.step(events.DrainAsked(), BEGUN)
    assert is_to_be_announced(supervisor.cluster, events.Urgency.DRAIN)  # Until the announcement is over.
    supervisor.step(events.Tick(), BEGUN + ANNOUNCE)
    assert not is_to_be_announced(supervisor.cluster, events.Urgency.DRAIN)


@pytest.mark.parametrize("urgency", [events.Urgency.INTERRUPT, events.Urgency.AT_ONCE])
def test_who_waits_at_a_terminal_or_is_in_a_hurry_is_not_kept_waiting(urgency: events.Urgency) -> None:
    assert not is_to_be_announced(serving().cluster, urgency)


def test_a_stop_is_announced_to_no_one_where_nothing_is_set_or_nothing_serves() -> None:
    assert not is_to_be_announced(serving(announce=0.0).cluster, events.Urgency.DRAIN)
    starting = Supervisor()
    starting.step(events.Start(supervisor_settings(workers=1, announce=ANNOUNCE)), BEGUN)
    assert not is_to_be_announced(starting.cluster, events.Urgency.DRAIN)


def test_a_drained_service_starts_drained_and_tells_each_new_worker() -> None:
    supervisor = serving(is_drained=True)
    assert supervisor.cluster.rotation is Rotation.OUT
    assert status_line(supervisor.cluster, str).endswith("out of the rotation of load balancers (drained)")
    supervisor.step(events.WorkerGone(3, "SIGKILL", by_signal=True), BEGUN + 1)
    supervisor.step(events.WorkerHello(4, 104), BEGUN + 1)
    decided = supervisor.step(events.WorkerReady(4), BEGUN + 1)
    assert decided[:2] == [actions.Serve(4), actions.SetKeepAlive(4, is_on=False)]
