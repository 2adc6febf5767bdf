"""The master's readers against what a hostile worker may write: the same bytes every time; longer by `make fuzz`."""

import pytest

from tests.fuzz.worker_side import WorkerSide

pytestmark = pytest.mark.engine_independent

ROUNDS = 1000


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_a_worker_has_written_is_read_or_refused(seed: int) -> None:
    side = WorkerSide(seed)
    for _ in range(ROUNDS):
        side.round()
    assert side.refused > ROUNDS  # Otherwise what it writes would be too tame.
