"""The scoreboard across forks."""

import os

import pytest

from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.scoreboard import Scoreboard

pytestmark = pytest.mark.engine_independent


def test_counts_of_a_killed_process_are_all_there() -> None:
    scoreboard = Scoreboard.create()
    children = []
    for index in (scoreboard.lease(), scoreboard.lease()):
        child = os.fork()
        if child == 0:
            row = scoreboard.row(index)
            for _ in range(20_000):
                RequestCounter(row).request_done(200, 0.002, 0.0)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert [scoreboard.row(index).requests for index in (0, 1)] == [20_000, 20_000]
    scoreboard.close()
