"""How many equal records are written in a second, and how those left out are counted."""

import itertools
import os
import tracemalloc

import pytest

from clusterd.log import Level, Logger, Record, Sink
from clusterd.log.record import UNLIMITED
from clusterd.log.repeats import MOST_KINDS, OTHERS, LeftOut, Repeats

pytestmark = pytest.mark.engine_independent

ERROR, INFO = Level.ERROR, Level.INFO


def admitted(repeats: Repeats, count: int, now: float, alike: str = "full", level: Level = ERROR) -> int:
    return sum(repeats.admits(level, alike, f"what {alike}", now) for _ in range(count))


def test_the_first_ones_of_a_second_are_admitted() -> None:
    repeats = Repeats(20)
    assert admitted(repeats, 8268, 10.0) == 20
    assert repeats.left_out == 8248


def test_those_left_out_are_reported_once_when_their_second_is_over() -> None:
    repeats = Repeats(2)
    admitted(repeats, 5, 10.0)
    assert repeats.reports(10.9) == []
    assert repeats.reports(11.0) == [LeftOut(ERROR, "what full", 3)]
    assert repeats.reports(12.0) == []


def test_each_second_admits_as_many_again() -> None:
    repeats = Repeats(2)
    assert [admitted(repeats, 3, now) for now in (10.0, 10.5, 11.0, 12.5)] == [2, 0, 2, 2]


def test_a_report_that_nobody_asked_for_in_time_is_not_lost_with_the_next_second() -> None:
    repeats = Repeats(2)
    admitted(repeats, 5, 10.0)
    admitted(repeats, 4, 13.0)
    assert [each.count for each in repeats.reports(14.0)] == [3, 2]


def test_other_messages_and_levels_are_counted_apart() -> None:
    repeats = Repeats(1)
    assert admitted(repeats, 2, 0.0, "a") == admitted(repeats, 2, 0.0, "b") == admitted(repeats, 2, 0.0, "a", INFO) == 1
    assert {(each.level, each.what) for each in repeats.reports(1.0)} == {
        (ERROR, "what a"),
        (ERROR, "what b"),
        (INFO, "what a"),
    }


def test_without_a_limit_everything_is_admitted() -> None:
    repeats = Repeats(0)
    assert admitted(repeats, 1000, 0.0) == 1000
    assert repeats.reports(5.0) == []


def test_as_many_kinds_as_clients_may_think_of_take_no_more_memory() -> None:
    repeats = Repeats(3)
    count = sum(admitted(repeats, 1, 0.0, f"kind {number}") for number in range(10 * MOST_KINDS))
    assert count == MOST_KINDS + 3
    assert repeats.reports(1.0) == [LeftOut(ERROR, OTHERS, 9 * MOST_KINDS - 3)]
    assert admitted(repeats, 1, 1.0, "kind after them") == 1


def traceback_of(exception: str, line: int = 7) -> str:
    frame = f'  File "shop.py", line {line}, in buy'
    return f"the application raised\nTraceback (most recent call last):\n{frame}\n{exception}"


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        (Record(INFO, "full", {"target": "/a"}), Record(INFO, "full", {"target": "/b"}), True),
        (Record(INFO, "full", {}), Record(INFO, "empty", {}), False),
        (Record(INFO, traceback_of("KeyError: 'a'"), {}), Record(INFO, traceback_of("KeyError: 'b'"), {}), True),
        (Record(INFO, traceback_of("KeyError: 'a'"), {}), Record(INFO, traceback_of("TypeError: 'a'"), {}), False),
        (Record(INFO, traceback_of("KeyError"), {}), Record(INFO, traceback_of("KeyError", 8), {}), False),
        (Record(INFO, "one", {}, "503"), Record(INFO, "two", {}, "503"), True),
    ],
)
def test_which_records_are_equal(one: Record, other: Record, are_equal: bool) -> None:
    assert (one.kind == other.kind) is are_equal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def logging_to(taken: list[str], clock: Clock, limit: int) -> Logger:
    def send(payload: bytes) -> bool:
        taken.append(payload.decode())
        return True

    logger = Logger(Sink(lambda record: [line.encode() for line in record.lines()], send, clock=clock))
    logger.shape(as_json=False, repeats=limit)
    return logger


def test_the_log_says_how_many_it_has_left_out() -> None:
    taken: list[str] = []
    clock = Clock()
    logger = logging_to(taken, clock, 2)
    for number in range(5):
        logger.error("the queue is full", target=f"/{number}")
    logger.error("something else")
    clock.now = 1.0
    logger.flush()
    assert taken == [
        "the queue is full target=/0",
        "the queue is full target=/1",
        "something else",
        'equal log records left out count=3 like="the queue is full"',
    ]
    assert (logger.left_out, logger.lost) == (3, 0)


def test_what_was_left_out_is_told_at_the_end_of_the_process() -> None:
    taken: list[str] = []
    logger = logging_to(taken, Clock(), 1)
    for number in range(3):
        logger.error(traceback_of(f"KeyError: {number}"))
    logger.finish()
    assert taken[-1] == 'equal log records left out count=2 like="the application raised: KeyError: 0"'


def test_requests_are_told_by_their_status_and_reason() -> None:
    taken: list[str] = []
    clock = Clock()
    logger = logging_to(taken, clock, 1)
    for _ in range(3):
        logger.request(ERROR, "request", "503 full", {"target": "/"})
    clock.now = 1.0
    logger.flush()
    assert taken == ["request target=/", 'equal log records left out count=2 like="request 503 full"']


def test_the_access_log_may_have_all_its_lines() -> None:
    taken: list[str] = []
    logger = logging_to(taken, Clock(), 2)
    for _ in range(5):
        logger.request(INFO, "GET /", UNLIMITED)
    for _ in range(5):
        logger.request(ERROR, "GET / 503", "503")
    assert taken == ["GET /"] * 5 + ["GET / 503"] * 2


def test_a_fork_counts_its_own() -> None:
    logger = logging_to([], Clock(), 2)
    for _ in range(5):
        logger.error("full")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        logger.error("full")
        os.write(writer, b"%d" % logger.left_out)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"0"
    os.close(reader)


def test_a_changed_limit_holds_at_once_and_the_count_goes_on() -> None:
    taken: list[str] = []
    logger = logging_to(taken, Clock(), 1)
    logger.error("full")
    logger.error("full")
    logger.shape(as_json=False, repeats=0)
    logger.error("full")
    assert taken == ["full", "equal log records left out count=1 like=full", "full"]
    assert logger.left_out == 1


def test_long_messages_of_many_kinds_take_little_memory() -> None:
    """A statement of SQL in a traceback, for example, has any length, and is another one each time."""
    repeats = Repeats(3)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(MOST_KINDS):
        text = f"{number}: {'x' * 100_000}"
        repeats.admits(ERROR, text, text, 0.0)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 1_000_000


def test_long_messages_that_differ_anywhere_are_told_apart() -> None:
    repeats = Repeats(1)
    assert admitted(repeats, 2, 0.0, "x" * 5000 + "a") == admitted(repeats, 2, 0.0, "x" * 5000 + "b") == 1


def test_a_signal_handler_may_log_while_the_reports_are_made() -> None:
    class Interrupted(float):
        def __add__(self, other: float) -> float:
            repeats.admits(ERROR, f"kind {next(numbers)} of the handler", "what", 11.5)
            return float(self) + other

    numbers = itertools.count()
    repeats = Repeats(2)
    admitted(repeats, 5, 10.0)
    admitted(repeats, 5, Interrupted(11.0), "later")
    assert [each.what for each in repeats.reports(11.2)] == ["what full"]
