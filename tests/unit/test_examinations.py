"""What the master does about workers that are examined, whatever they write into its file."""

import asyncio
import os
import zlib
from collections.abc import Callable, Coroutine
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterd.master.children.child import Child, Kind
from clusterd.master.diagnosis import examinations
from clusterd.master.diagnosis.examinations import Examinations, NoReport, Report, Step, next_step, times_of
from clusterd.profiles import examination
from clusterd.profiles.examination import MOST_BYTES, Examination, Stage
from clusterd.wire.messages import Examine

pytestmark = pytest.mark.engine_independent

PROFILE, MEMORY = Examination.PROFILE, Examination.MEMORY


@pytest.mark.parametrize(
    ("what", "stage", "now", "has_dumps", "step"),
    [
        (PROFILE, Stage.UNREAD, 0.4, False, Step.WAIT),
        (PROFILE, Stage.UNREAD, 0.6, False, Step.SIGNAL),
        (PROFILE, Stage.BEGUN, 0.6, False, Step.WAIT),
        (PROFILE, Stage.UNREAD, 10.0, True, Step.FINISH),
        (PROFILE, Stage.UNREAD, 10.0, False, Step.GIVE_UP),
        (PROFILE, Stage.BEGUN, 14.0, True, Step.WAIT),
        (PROFILE, Stage.BEGUN, 15.1, True, Step.FINISH),
        (PROFILE, Stage.BEGUN, 15.1, False, Step.GIVE_UP),
        (PROFILE, Stage.DONE, 0.1, False, Step.FINISH),
        (PROFILE, Stage.FAILED, 0.1, True, Step.FINISH),
        (MEMORY, Stage.UNREAD, 4.0, False, Step.WAIT),
        (MEMORY, Stage.UNREAD, 5.1, False, Step.GIVE_UP),
        (MEMORY, Stage.BEGUN, 50.0, False, Step.WAIT),
        (MEMORY, Stage.BEGUN, 130.1, False, Step.GIVE_UP),
    ],
)
def test_what_is_done_at_a_look(what: Examination, stage: Stage, now: float, has_dumps: bool, step: Step) -> None:
    times = times_of(what, 0.0, 10.0)
    assert next_step(what, stage, times, now, has_dumps=has_dumps) is step


class Master:
    """What Examinations needs of one, with worker 3."""

    def __init__(self) -> None:
        self.worker = Child(7, Kind.WORKER, generation=1, slot=3, pid=42)
        self.orders: list[Examine] = []
        self.files: list[int] = []
        self.answers: list[Report | NoReport] = []
        self.answered = asyncio.Event()
        self.take: Callable[[str], None] | None = None
        self.is_wanted = True
        stacks = SimpleNamespace(begin_sampling=self._begin, end_sampling=self._end)
        self.examinations = Examinations(
            cast(Any, SimpleNamespace(send=self._send)), cast(Any, stacks), asyncio.get_running_loop()
        )

    def ask(self, what: Examination = PROFILE, seconds: float = 10.0) -> None:
        self.answered.clear()
        self.examinations.start(self.worker, what, seconds, self._tell, lambda: self.is_wanted)

    async def answer(self) -> Report | NoReport:
        await asyncio.wait_for(self.answered.wait(), 10)
        return self.answers[-1]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the condition is a file, or is set in a callback
                await asyncio.sleep(0)

    def close(self) -> None:
        self.examinations.ended(self.worker)
        for each in self.files:
            os.close(each)

    def _send(self, _: Child, order: Examine, descriptor: int) -> None:
        self.orders.append(order)
        self.files.append(os.dup(descriptor))

    def _tell(self, answer: Report | NoReport) -> None:
        self.answers.append(answer)
        self.answered.set()

    def _begin(self, _: Child, take: Callable[[str], None]) -> None:
        self.take = take

    def _end(self, _: Child) -> None:
        self.take = None


def run(scenario: Callable[[Master], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it with a master that looks all the time. It leaves no descriptors behind."""
    monkeypatch.setattr(examinations, "LOOK_EVERY_SECONDS", 0.0)

    async def whole() -> None:
        before = len(os.listdir("/proc/self/fd"))
        master = Master()
        try:
            await scenario(master)
        finally:
            master.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(whole())


def test_a_result_is_passed_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        examination.begun(master.files[0])
        examination.done(master.files[0], b"\x00whatever")
        before = len(os.listdir("/proc/self/fd"))
        assert await master.answer() == Report(b"\x00whatever", b"", 0)
        assert len(os.listdir("/proc/self/fd")) == before - 2  # A result takes memory, which is not kept.
        (order,) = master.orders
        assert (order.what, order.begin_by) == ("profile", order.until)

    run(scenario, monkeypatch)


def test_a_worker_says_why_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask(MEMORY)
        examination.failed(master.files[0], "no memory " + "\ud800" * 2000)
        answer = await master.answer()
        assert isinstance(answer, NoReport)
        assert answer.reason.startswith("worker 3: no memory ??")
        assert len(answer.reason) < 1100

    run(scenario, monkeypatch)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_a_worker_writes_little_of_it_is_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(seed)

    async def scenario(master: Master) -> None:
        master.ask()
        os.ftruncate(master.files[0], random.choice([0, 3, 100, 1 << 30]))
        written = bytes([random.choice([2, 3, 4, 255])]) + random.randbytes(random.randrange(7, 40))
        os.pwrite(master.files[0], written, 0)
        answer = await master.answer()
        if isinstance(answer, Report):
            assert len(answer.result) <= MOST_BYTES
        else:
            assert len(answer.reason) < 1100

    run(scenario, monkeypatch)


def test_a_result_that_is_too_large_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        examination.done(master.files[0], bytes(MOST_BYTES + 1))
        answer = await master.answer()
        assert isinstance(answer, NoReport)
        assert "at most 1048576 can be passed on" in answer.reason

    run(scenario, monkeypatch)


def test_a_worker_that_does_not_read_is_sampled_by_signals_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examinations, "BEGIN_SECONDS", 0.0)

    async def scenario(master: Master) -> None:
        master.ask()
        await master.until(lambda: master.take)
        assert master.take is not None
        master.take("one")
        master.take("two" + "x" * examinations.MOST_OF_A_DUMP)
        examination.begun(master.files[0])
        await master.until(lambda: master.take is None)
        examination.done(master.files[0], b"rest")
        answer = await master.answer()
        assert isinstance(answer, Report)
        assert (answer.result, answer.dump_count) == (b"rest", 2)
        assert zlib.decompress(answer.dumps).startswith(b"one\ntwox")
        assert len(zlib.decompress(answer.dumps)) < examinations.MOST_OF_A_DUMP + 100

    run(scenario, monkeypatch)


def test_a_worker_that_never_reads_gives_what_signals_have_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examinations, "BEGIN_SECONDS", 0.0)

    async def scenario(master: Master) -> None:
        master.ask(seconds=0.2)
        await master.until(lambda: master.take)
        take = master.take
        assert take is not None
        take("one")
        answer = await master.answer()
        assert isinstance(answer, Report)
        assert (answer.result, answer.dump_count) == (b"", 1)
        assert master.take is None
        take("what was on its way")

    run(scenario, monkeypatch)


def test_orders_do_not_pile_up_in_the_channel_of_a_worker_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examinations, "MEMORY_BEGIN_SECONDS", 0.0)

    async def scenario(master: Master) -> None:
        for _ in range(5):
            master.ask(MEMORY)
            answer = await master.answer()
            assert isinstance(answer, NoReport)
            assert "its event loop does not turn; `clusterctl stacks 3` shows" in answer.reason
        assert len(master.orders) == 1
        assert examination.is_called_off(master.files[0])
        examination.failed(master.files[0], "late")
        master.ask(MEMORY)
        await master.answer()
        assert len(master.orders) == 2

    run(scenario, monkeypatch)


def test_a_worker_is_examined_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        master.ask(MEMORY)
        answer = await master.answer()
        assert isinstance(answer, NoReport)
        assert answer.reason.startswith("worker 3 is being examined already (profile), for another 10 s")

    run(scenario, monkeypatch)


def test_the_death_of_a_worker_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        master.examinations.ended(master.worker)
        answer = await master.answer()
        assert isinstance(answer, NoReport)
        assert answer.reason.startswith("worker 3 (pid 42) has ended while it was examined")

    run(scenario, monkeypatch)


def test_a_worker_that_dies_after_its_answer_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        examination.done(master.files[0], b"in time")
        master.examinations.ended(master.worker)
        assert await master.answer() == Report(b"in time", b"", 0)

    run(scenario, monkeypatch)


def test_what_nobody_waits_for_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(master: Master) -> None:
        master.ask()
        examination.begun(master.files[0])
        master.is_wanted = False
        await master.until(lambda: examination.is_called_off(master.files[0]))
        assert not master.answers
        master.is_wanted = True
        master.ask()
        examination.done(master.files[1], b"next")
        assert await master.answer() == Report(b"next", b"", 0)

    run(scenario, monkeypatch)
