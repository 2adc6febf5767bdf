"""What the log says of workers that die together, and of the requests that they had."""

import pytest

from clusterd.log import Level, Logger, Sink
from clusterd.master.children.in_hand import MOST_NAMED, report_held
from clusterd.supervisor.actions import WorkerEnded
from clusterd.supervisor.model.held import Cause, Held, HeldRequest
from clusterd.supervisor.model.states import EndReason

pytestmark = pytest.mark.engine_independent


def logging_to(taken: list[bytes], repeats: int) -> Logger:
    def send(payload: bytes) -> bool:
        taken.append(payload)
        return True

    log = Logger(Sink(lambda record: [line.encode() for line in record.lines()], send, clock=lambda: 0.0))
    log.shape(as_json=False, repeats=repeats)
    return log


def test_those_of_workers_that_die_together_are_all_named() -> None:
    """The limit of equal records left out those of all workers but the first."""
    taken: list[bytes] = []
    log = logging_to(taken, repeats=20)
    requests = tuple(HeldRequest("GET", f"/{number}", 1.0, "127.0.0.1:1") for number in range(MOST_NAMED))
    for slot in (1, 2, 3):
        report_held(
            WorkerEnded(
                serial=slot,
                slot=slot,
                generation=1,
                pid=100 + slot,
                reason=EndReason.SIGNAL,
                how="SIGKILL",
                retry_in=None,
                code=-9,
                held=Held(requests, 5),
                cause=Cause.SIGNAL,
            ),
            log,
        )
    log.finish()
    assert len(taken) == 3 * (MOST_NAMED + 1)
    assert b"request lost with its worker method=GET target=/0 age=1 peer=127.0.0.1:1 slot=1" in taken[0]


def test_what_is_said_of_a_worker_is_limited_like_everything_else() -> None:
    taken: list[bytes] = []
    log = logging_to(taken, repeats=1)
    for _ in range(3):
        log.of(7, Level.INFO, "worker ready", slot=1)
    log.of(8, Level.INFO, "worker ready", slot=2)
    log.finish()
    left_out = b'equal log records left out count=2 like="worker ready (7)"'
    assert taken == [b"worker ready slot=1", b"worker ready slot=2", left_out]
