"""A simulated world for hooks: their processes load, fail, die and dawdle in random order, while things happen.

As in `exploration.py`, a schedule is a seed. The decisions and the queue are clusterd's own; the processes are
simulated, and keep what they were told.
"""

import heapq
import itertools
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from clusterd.log import Logger
from clusterd.master.hooks.decisions import steps
from clusterd.master.hooks.decisions.feed import Entry, Feed, Snapshot
from clusterd.master.hooks.decisions.processes import HooksSupervisor
from clusterd.master.hooks.delivery import HooksQueue
from clusterd.wire.conversation import Conversation, Incoming
from clusterd.wire.hooks import EXIT, FORK, MESSAGE, State, WorkerEvent
from clusterd.wire.messages import AppMessage
from tests.support.supervisor_world import Violation
from tests.unit.test_handling import Lines

THINGS_OF_A_SCHEDULE = 60
MOST_EVENTS = 6
LOAD_SECONDS = 20.0
LEAVE_SECONDS = 5.0
END_SECONDS = 5.0
PEACE_SECONDS = 200.0


@dataclass
class Process:
    """One that is alive, and what it knows."""

    serial: int
    generation: int
    is_doomed: bool = False
    is_leaving: bool = False
    is_told: bool = False
    has_begun: bool = False
    workers: dict[int, State] = field(default_factory=dict)


@dataclass
class World:
    """One schedule: `run` plays it to its end. It is the link of every process, too (`master/hooks/link.py`)."""

    seed: int
    random: Random = field(init=False)
    supervisor: HooksSupervisor = field(default_factory=HooksSupervisor)
    now: float = 0.0
    later: list[tuple[float, int, tuple[str, Any]]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    processes: dict[int, Process] = field(default_factory=dict)
    has_hooks: dict[int, bool] = field(default_factory=dict)
    candidate: int = 0
    judged: dict[int, bool] = field(default_factory=dict)
    living: dict[int, WorkerEvent] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    told: list[int] = field(default_factory=list)
    to_be_told: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    given_up: list[int] = field(default_factory=list)
    peace: bool = False
    stopped_at: float | None = None
    finished: bool = False
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.steps: list[steps.Event] = []
        self.is_acting = False
        self.feed = WatchedFeed(self.given_up)
        self.queue = HooksQueue(
            self.feed, Logger(Lines()), lambda: self.step(steps.Emptied()), self.through, lambda serial, why: None
        )

    def run(self) -> None:
        """Play the schedule. Raises Violation."""
        self.begin_generation()
        for _ in range(THINGS_OF_A_SCHEDULE):
            if self.finished:
                break
            self.something_happens()
            if self.random.random() < 0.6:
                self.advance()
        self.peace = True
        for process in self.processes.values():
            if process.is_told:
                self.in_a_while("dealt", process.serial)  # no handler is stuck any more
        if self.stopped_at is None:
            until = self.now + PEACE_SECONDS
            while self.now < until and self.advance():
                pass
            self.check_settled()
            self.stop()
        while self.advance():
            pass
        self.check_end()

    # ---- what happens

    def something_happens(self) -> None:
        what = self.random.random()
        if self.stopped_at is not None:
            if what < 0.2:
                self.stop()
        elif what < 0.5:
            self.worker_event()
        elif what < 0.6:
            self.message()
        elif what < 0.75:
            if not self.candidate:
                self.begin_generation()
        elif what < 0.9:
            self.rollout_ends()
        elif what < 0.97:
            self.die(self.random.choice(list(self.processes) or [0]))
        elif what > 0.985:
            self.stop()

    def worker_event(self) -> None:
        serial = self.random.choice([*self.living, 0])
        if not serial:
            serial = next(self.numbers) + 1000
            worker_event = WorkerEvent(FORK, serial, 1, 1, State())
        else:
            name = self.random.choice(["online", "listening", EXIT])
            state = State(self.random.randint(1, 99), is_listening=name == "listening", is_dead=name == EXIT)
            worker_event = replace(self.living[serial], name=name, state=state)
        number = next(self.numbers)
        worker_event = replace(worker_event, arguments=(number,))
        self.living[serial] = worker_event
        if worker_event.state.is_dead:
            del self.living[serial]
        self.note(f"{worker_event.name} of {serial}, number {number}")
        if not self.supervisor.has_hooks:
            self.queue.pass_over(worker_event)
            return
        dropped = self.queue.counts.events_dropped
        self.to_be_told.append(number)
        self.queue.add_event(worker_event)
        if self.queue.counts.events_dropped > dropped:
            self.to_be_told.remove(number)

    def message(self) -> None:
        if not self.living or not self.supervisor.has_hooks:
            return
        number = next(self.numbers)
        last = self.living[self.random.choice(list(self.living))]
        self.note(f"message of {last.serial}, number {number}")
        self.to_be_told.append(number)
        conversation = Conversation()
        incoming = Incoming(conversation, AppMessage(number))
        self.queue.add_message(replace(last, name=MESSAGE, arguments=(number,)), incoming)

    def begin_generation(self) -> None:
        number = len(self.has_hooks) + 1
        self.has_hooks[number] = self.random.random() < 0.8
        self.candidate = number if number > 1 else 0
        self.step(steps.GenerationBegins(number, self.has_hooks[number], LOAD_SECONDS, LEAVE_SECONDS))

    def rollout_ends(self) -> None:
        if self.candidate:
            good = not self.supervisor.is_held_up(self.candidate) and self.random.random() < 0.7
            self.serve(self.candidate if good else self.supervisor.serving)

    def serve(self, generation: int) -> None:
        self.candidate = 0
        self.step(steps.GenerationServes(generation))
        self.queue.say_if_empty()

    def die(self, serial: int) -> None:
        process = self.processes.pop(serial, None)
        if process is None:
            return
        self.note(f"{serial} is gone")
        out = self.feed.out
        if process.is_told and isinstance(out, Entry):
            self.cut.append(out.worker_event.arguments[0])
        self.queue.gone(serial, "SIGKILL")
        self.step(steps.Gone(serial, "SIGKILL"))

    def stop(self) -> None:
        at_once = self.random.random() < 0.2 and not self.peace
        self.stopped_at = self.now if self.stopped_at is None else self.stopped_at
        self.step(steps.Stop(0.0 if at_once else END_SECONDS))
        self.queue.say_if_empty()

    def advance(self) -> bool:
        """Let time pass until the next thing happens; False when nothing will."""
        wake = self.supervisor.wake_at
        if self.later and (wake is None or self.later[0][0] <= wake):
            at, _, (what, detail) = heapq.heappop(self.later)
            self.now = max(self.now, at)
            self.carry_on(what, detail)
            return True
        if wake is None:
            return False
        self.now = max(self.now, wake)
        self.step(steps.Tick())
        return True

    def in_a_while(self, what: str, detail: Any, longest: float = 3.0) -> None:
        at = self.now + self.random.random() * longest
        heapq.heappush(self.later, (at, next(self.order), (what, detail)))

    def carry_on(self, what: str, serial: int) -> None:
        process = self.processes.get(serial)
        if process is None:
            return
        if what == "die":
            self.die(serial)
        elif process.is_doomed:
            return
        elif what == "loaded":
            self.step(steps.Loaded(serial))
        elif what == "failed":
            self.step(steps.Failed(serial, "SyntaxError"))
            self.in_a_while("die", serial)
        elif what == "dealt":
            self.queue.settled(serial)

    # ---- what is decided

    def step(self, event: steps.Event) -> None:
        self.steps.append(event)
        if self.is_acting:
            return
        self.is_acting = True
        while self.steps:
            event = self.steps.pop(0)
            self.note(str(event))
            for action in self.supervisor.step(event, self.now):
                self.note(f"    {action}")
                self.act(action)
        self.is_acting = False
        if not self.supervisor.has_hooks:
            self.queue.give_up_rest()

    def act(self, action: steps.Action) -> None:
        match action:
            case steps.Start(serial, generation):
                self.require(not self.finished and self.stopped_at is None, "nothing starts while stopping")
                self.start(serial, generation)
            case steps.Tell(serial):
                others = [each for each in self.processes.values() if each.is_told and each.serial != serial]
                self.require(not others, "one process is told at a time")
                self.require(self.processes[serial].generation == self.supervisor.serving, "who serves is told")
                self.processes[serial].is_told = True
                self.queue.connect(serial, Link(self, serial))  # type: ignore[arg-type]
                self.queue.begin(serial)
            case steps.Leave(serial):
                self.queue.let_go(serial)
            case steps.Kill(serial):
                self.require(serial in self.processes, "only the living are killed")
                self.processes[serial].is_doomed = True
                self.in_a_while("die", serial)
            case steps.Good(generation):
                self.judge(generation, is_good=True)
            case steps.Bad(generation):
                self.judge(generation, is_good=False)
            case steps.Finished():
                self.queue.give_up_rest()
                self.finished = True

    def judge(self, generation: int, *, is_good: bool) -> None:
        self.require(generation not in self.judged, "the load of a generation is judged once")
        self.judged[generation] = is_good
        if not is_good and generation == self.candidate:
            self.serve(self.supervisor.serving)
        elif not is_good:
            self.stop()

    def start(self, serial: int, generation: int) -> None:
        self.processes[serial] = Process(serial, generation)
        choice = 1.0 if self.peace else self.random.random()
        if choice < 0.1:
            self.in_a_while("die", serial)
        elif choice < 0.2:
            self.in_a_while("failed", serial)
        elif choice > 0.25:
            self.in_a_while("loaded", serial)

    def through(self, serial: int) -> None:
        self.require(self.feed.out is None, "who leaves is through with what it was told")
        if process := self.processes.get(serial):
            process.is_leaving = True
            if self.peace or self.random.random() < 0.8:
                self.in_a_while("die", serial, 0.5)

    def tell(self, serial: int, entry: Entry | Snapshot) -> None:
        """A process is told something."""
        process = self.processes[serial]
        self.note(f"    {serial} is told {entry}")
        self.require(not process.is_leaving and not process.is_doomed, "the dead and the leaving are told nothing")
        if isinstance(entry, Snapshot):
            self.require(process.has_begun != entry.is_beginning, "a process begins once, with a snapshot")
            process.has_begun = True
            for last in entry.workers:
                self.know(process, last)
        else:
            self.require(process.has_begun, "it is told that it begins before what happens")
            self.hear(process, entry.worker_event)
        if self.peace or self.random.random() < 0.9:
            self.in_a_while("dealt", serial, 0.5)
        if not self.peace and self.random.random() < 0.03:
            self.in_a_while("die", serial)

    def hear(self, process: Process, worker_event: WorkerEvent) -> None:
        number = worker_event.arguments[0]
        self.require(number not in self.told, "nothing is told twice")
        self.require(not self.told or number > self.told[-1], "things are told in their order")
        self.told.append(number)
        known = worker_event.serial in process.workers
        self.require(known != (worker_event.name == FORK), "a worker is known from its fork to its end, and only then")
        self.know(process, worker_event)

    def know(self, process: Process, worker_event: WorkerEvent) -> None:
        self.require(worker_event.serial in process.workers or not worker_event.state.is_dead, "who ends was there")
        process.workers[worker_event.serial] = worker_event.state
        if worker_event.state.is_dead:
            del process.workers[worker_event.serial]

    # ---- what is so in the end

    def check_settled(self) -> None:
        """In peace everything is told, and everybody knows everyone."""
        self.require(self.told == [each for each in self.to_be_told if each not in self.given_up], "all is told")
        has_hooks = self.has_hooks[self.supervisor.serving]
        told = [each for each in self.processes.values() if each.is_told]
        self.require(len(told) == has_hooks, "there is one process where there are hooks")
        for process in told:
            expected = {serial: worker_event.state for serial, worker_event in self.living.items()}
            self.require(process.workers == expected, f"the living are known: {process.workers} {expected}")

    def check_end(self) -> None:
        self.require(self.finished and not self.processes, "a stop always finishes")
        if self.stopped_at is not None:
            self.require(self.now <= self.stopped_at + END_SECONDS + LOAD_SECONDS, "a stop is bounded")
        untold = [each for each in self.to_be_told if each not in self.told]
        self.require(untold == self.given_up, f"what was not told was given up, and counted: {untold}")
        self.require(self.queue.counts.cut == len(self.cut), f"what was cut is counted: {self.cut}")

    def note(self, text: str) -> None:
        self.history.append(f"{self.now:8.2f} {text}")

    def require(self, holds: object, invariant: str) -> None:
        if not holds:
            raise Violation(f"seed {self.seed}: {invariant}\n" + "\n".join(self.history[-60:]))


class WatchedFeed(Feed):
    """A small one, which remembers what nobody was told of."""

    def __init__(self, given_up: list[int]) -> None:
        super().__init__(MOST_EVENTS)
        self._given_up = given_up

    def clear(self) -> list[Entry]:
        untold = super().clear()
        self._given_up += [entry.worker_event.arguments[0] for entry in untold]
        return untold


@dataclass(frozen=True)
class Link:
    """With a simulated process."""

    world: World
    serial: int

    def tell(self, entry: Entry | Snapshot) -> None:
        self.world.tell(self.serial, entry)

    def end(self, why: str) -> None:
        pass
