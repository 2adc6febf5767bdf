"""A call whose time is over is interrupted, wherever it is."""

import threading
import time
from collections.abc import Iterator

import pytest

from clusterd.process.time_limit import OutOfTime, interrupted

pytestmark = pytest.mark.engine_independent


class Stubborn:
    """Waits for ever, and catches the first interruptions."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        while True:
            try:
                threading.Event().wait()
            except OutOfTime:
                if not self.left:
                    raise
                self.left -= 1


@pytest.mark.parametrize("times", [0, 2])
def test_a_call_that_waits_is_interrupted_again_and_again(times: int) -> None:
    call = Stubborn(times)
    assert interrupted(call, time.monotonic())
    assert call.left == 0


def test_a_call_that_returns_in_time_is_not() -> None:
    done: list[int] = []
    assert not interrupted(lambda: done.append(1), time.monotonic() + 60.0)
    assert done == [1]


def test_its_errors_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        interrupted(lambda: 1 // 0, time.monotonic() + 60.0)


def test_code_that_catches_every_error_does_not_catch_the_end_of_its_time() -> None:
    def pieces() -> Iterator[int]:
        while True:
            try:
                threading.Event().wait()
            except Exception:
                yield 1

    assert interrupted(lambda: list(pieces()), time.monotonic())
