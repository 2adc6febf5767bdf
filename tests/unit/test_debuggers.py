"""Who is told what of a debugger in a worker, and what a worker that has one is spared."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterd.config.model import Debug, TcpAddress
from clusterd.config.settings.schema import BY_KEY
from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.diagnosis import debuggers
from clusterd.master.diagnosis.debuggers import Debuggers, NoDebugger
from clusterd.supervisor import actions, events
from clusterd.supervisor.supervisor import Supervisor
from clusterd.wire.control import MOST_SLOTS
from clusterd.wire.messages import StartDebugger
from tests.support.settings import supervisor_settings

pytestmark = pytest.mark.engine_independent


class Master:
    """What Debuggers needs of one, with worker 3."""

    def __init__(self, loop: asyncio.AbstractEventLoop, debug: Debug) -> None:
        self.sent: list[Any] = []
        self.happened: list[events.Event] = []
        self.answers: list[TcpAddress | NoDebugger] = []
        self.answered = asyncio.Event()
        self.worker = Child(7, Kind.WORKER, generation=1, slot=3, pid=42)
        children = SimpleNamespace(send=lambda _, message: self.sent.append(message))
        configurations = SimpleNamespace(of=lambda _: SimpleNamespace(debug=debug))
        log = SimpleNamespace(warning=lambda *_, **__: None)
        self.debuggers = Debuggers(
            cast(Any, children), cast(Any, configurations), loop, cast(Logger, log), self.happened.append
        )

    def ask(self) -> None:
        def tell(answer: TcpAddress | NoDebugger) -> None:
            self.answers.append(answer)
            self.answered.set()

        self.debuggers.start(self.worker, tell)


ADDRESS = TcpAddress("127.0.0.1", 5003)
DEBUG = Debug(5000, "127.0.0.1")


def test_nobody_waits_longer_than_that_for_a_worker_that_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debuggers, "ANSWER_SECONDS", 0.0)

    async def scenario() -> None:
        master = Master(asyncio.get_running_loop(), DEBUG)
        master.ask()
        await asyncio.wait_for(master.answered.wait(), 10)
        (answer,) = master.answers
        assert isinstance(answer, NoDebugger)
        assert answer.reason.startswith("worker 3 has not answered within 0 s: `clusterctl stacks 3` shows")
        # It gets there in the end: that is known, and told to whoever asks next.
        master.debuggers.told(master.worker, "")
        assert (master.worker.debugger, len(master.answers)) == (ADDRESS, 1)
        assert master.happened == [events.DebuggerListens(7)]
        master.ask()
        assert master.answers[1:] == [ADDRESS]
        assert master.sent == [StartDebugger("127.0.0.1", 5003)]

    asyncio.run(scenario())


def test_everybody_who_asks_meanwhile_is_answered_once() -> None:
    async def scenario() -> None:
        master = Master(asyncio.get_running_loop(), DEBUG)
        for _ in range(2):
            master.ask()
        master.debuggers.told(master.worker, "the port is taken")
        assert master.answers == [NoDebugger("the port is taken")] * 2
        assert (master.worker.debugger, master.happened) == (None, [])
        master.ask()
        master.debuggers.ended(master.worker)
        assert master.answers[2:] == [NoDebugger("worker 3 (pid 42) has ended meanwhile; ask again")]

    asyncio.run(scenario())


def test_without_a_port_no_worker_is_asked() -> None:
    async def scenario() -> None:
        master = Master(asyncio.get_running_loop(), Debug(None, "127.0.0.1"))
        master.ask()
        assert isinstance(master.answers[0], NoDebugger)
        assert master.sent == []

    asyncio.run(scenario())


def test_every_slot_there_can_be_has_a_port() -> None:
    highest = BY_KEY["debug.port"].kind.read(str(65535 - MOST_SLOTS), "")
    assert highest + MOST_SLOTS == 65535


# ---- the supervisor

SETTINGS = supervisor_settings(workers=1)
WORKER = 3
"""Its serial: its template has the first, a spare the second."""
REASONS = (
    events.WorkerStalled(WORKER, 15.0, "its event loop has not turned"),
    events.WorkerStalled(WORKER, 31.0, "its event loop has not turned"),
    events.RequestLimitReached(WORKER),
    events.MemoryLimitReached(WORKER, 200, 100),
    events.RequestOverdue(WORKER, "GET /"),
)


def serving() -> Supervisor:
    """With one worker, that is ready."""
    supervisor = Supervisor()
    for event in (
        events.Start(SETTINGS),
        events.TemplateLoaded(1),
        events.SpareReady(2),
        events.WorkerHello(WORKER, 42),
        events.WorkerReady(WORKER),
    ):
        supervisor.step(event, 100.0)
    return supervisor


@pytest.mark.parametrize("reason", REASONS)
def test_a_worker_with_a_debugger_is_not_replaced_for_what_it_does(reason: events.Event) -> None:
    supervisor = serving()
    assert changing(supervisor.step(reason, 101.0)), "without a debugger it is"
    supervisor = serving()
    supervisor.step(events.DebuggerListens(WORKER), 100.5)
    assert not changing(supervisor.step(reason, 101.0))


def test_it_is_replaced_when_somebody_asks_for_that() -> None:
    supervisor = serving()
    supervisor.step(events.DebuggerListens(WORKER), 100.5)
    assert changing(supervisor.step(events.RestartAsked(1, 1), 101.0))


def changing(taken: list[actions.Action]) -> list[actions.Action]:
    return [each for each in taken if isinstance(each, actions.Kill | actions.Fork | actions.DumpStacks)]
