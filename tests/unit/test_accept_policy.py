"""Whose turn it is to accept."""

import pytest

from clusterd.metrics.shared.scoreboard import Peers
from clusterd.worker.accepting.accept_policy import LOOP_AHEAD, Turn, decide


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
