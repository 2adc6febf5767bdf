"""Which requests are suspected of killing workers."""

import signal
from collections.abc import Sequence

from clusterd.supervisor import actions, events
from clusterd.supervisor.model.held import Held, HeldRequest
from clusterd.supervisor.model.suspects import DEATHS, REMEMBERED_DEATHS, WINDOW_SECONDS, Suspects
from tests.unit.test_restarts import Drill

KILLER, OTHER = "GET /kill", "GET /"


def suspicions_of(deaths: Sequence[tuple[float, tuple[str, ...]]]) -> list[tuple[float, str, int]]:
    suspects, found = Suspects(), []
    for now, requests in deaths:
        suspects, suspicions = suspects.after_death(now, requests)
        found += [(now, each.request, each.deaths) for each in suspicions]
    return found


def test_what_three_dying_workers_had_in_hand_is_suspect() -> None:
    assert suspicions_of([(1.0, (KILLER,)), (2.0, (OTHER,)), (3.0, ()), (4.0, (OTHER, KILLER)), (5.0, (KILLER,))]) == [
        (5.0, KILLER, 3)
    ]


def test_deaths_that_are_far_apart_have_nothing_to_do_with_each_other() -> None:
    apart = WINDOW_SECONDS / 2 + 1
    assert suspicions_of([(number * apart, (KILLER,)) for number in range(10)]) == []


def test_a_request_counts_once_for_a_worker_that_had_it_several_times() -> None:
    assert suspicions_of([(1.0, (KILLER,) * 5), (2.0, (KILLER,) * 5)]) == []


def test_several_are_named_in_their_order_and_each_once_in_a_window() -> None:
    every = [(float(number), (OTHER, KILLER)) for number in range(int(WINDOW_SECONDS) + 5)]
    assert suspicions_of(every) == [
        (2.0, OTHER, DEATHS),
        (2.0, KILLER, DEATHS),
        (2.0 + WINDOW_SECONDS + 1, OTHER, int(WINDOW_SECONDS) + 1),
        (2.0 + WINDOW_SECONDS + 1, KILLER, int(WINDOW_SECONDS) + 1),
    ]


def test_not_more_deaths_are_remembered_than_there_is_room_for() -> None:
    suspects = Suspects()
    for number in range(2 * REMEMBERED_DEATHS):
        suspects, _ = suspects.after_death(number / 1000, (f"GET /{number}",))
    assert len(suspects.deaths) == REMEMBERED_DEATHS


def holding(*requests: HeldRequest) -> Held:
    return Held(requests or (HeldRequest("GET", "/kill?secret=1", 1.0, "unix"),))


def died(serial: int, held: Held) -> events.WorkerGone:
    return events.WorkerGone(serial, "SIGSEGV", True, -signal.SIGSEGV, held=held)


def suspects_of(drill: Drill, held: Held) -> list[actions.Action]:
    told: list[actions.Action] = []
    for _ in range(DEATHS):
        told += drill.tell(died(drill.slots[1], held))
    return [action for action in told if isinstance(action, actions.Suspect)]


def test_a_websocket_is_no_suspect_and_a_query_makes_no_other_request() -> None:
    websocket = HeldRequest("GET", "/ws", 9.0, "unix", is_websocket=True)
    assert suspects_of(Drill(), holding(websocket)) == []
    assert suspects_of(Drill(), holding()) == [actions.Suspect(KILLER, DEATHS, WINDOW_SECONDS)]


def test_the_supervisor_tells_of_a_suspect_and_not_for_what_somebody_kills() -> None:
    drill, told = Drill(), []
    for number in range(4):
        serial = drill.slots[1]
        if number == 0:
            drill.tell(events.WorkerKilled(serial))
        told += drill.tell(died(serial, holding()))
    assert [action for action in told if isinstance(action, actions.Suspect)] == [
        actions.Suspect(KILLER, DEATHS, WINDOW_SECONDS)
    ]
