"""Whose turn it is under round_robin."""

from collections.abc import Sequence

import pytest

from clusterd.master.sockets.dispatch_channel import Availability, next_in_turn

READY, SILENT, FULL, BLOCKED = Availability


@pytest.mark.parametrize(
    ("standings", "place"),
    [
        ([], None),
        ([READY], 0),
        ([READY, READY, READY], 0),
        ([FULL, READY, READY], 1),
        ([SILENT, FULL, BLOCKED, READY], 3),
        # Nobody is well: those that serve it late come before those that send it away.
        ([FULL, SILENT, SILENT], 1),
        ([BLOCKED, FULL, FULL], 1),
        ([BLOCKED, BLOCKED], None),
    ],
)
def test_the_first_that_can_serve_is_next(standings: Sequence[Availability], place: int | None) -> None:
    assert next_in_turn(standings) == place


def test_no_more_are_looked_at_than_it_takes() -> None:
    standings = iter([FULL, READY, READY])
    assert next_in_turn(standings) == 1
    assert list(standings) == [READY]
