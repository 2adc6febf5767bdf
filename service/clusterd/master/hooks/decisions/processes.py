"""Decide which hooks processes run, and which of them receives the events. Pure decisions, like the supervisor's.

The hooks of a generation are loaded together with its template. If they fail to load, the generation fails. The hooks
of the generation that serves receive the events. When the next generation serves, its hooks take over. At most one
process receives events at a time.
"""

from dataclasses import field

from clusterd.master.hooks.decisions.steps import (
    HOOK_MOVES,
    Action,
    Bad,
    Died,
    Emptied,
    Event,
    Failed,
    Finished,
    GenerationBegins,
    GenerationServes,
    Gone,
    Good,
    HookState,
    Kill,
    Leave,
    Loaded,
    ShowStacks,
    Start,
    Stop,
    Tell,
)
from clusterd.records import dataclass
from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.states import checked_move


@dataclass(slots=True)
class HooksProcess:
    """The state of one hooks process."""

    serial: int
    generation: int
    leave_seconds: float
    load_seconds: float
    deadline: float | None
    """The time until which it must have loaded; later, the time until which it must have ended."""
    is_looked_at: bool = False
    """Its stacks were logged because it takes long to load; later, because it takes long to end."""
    state: HookState = HookState.LOADING
    told_at: float | None = None
    failure: str = ""
    """Why it does not load."""
    is_permanent: bool = False
    """Another attempt would fail in the same way."""

    def move(self, state: HookState) -> None:
        """Change the state. Raises IllegalMove."""
        self.state = checked_move(f"hooks process {self.serial}", self.state, state, HOOK_MOVES)


@dataclass(slots=True)
class _Generation:
    has_hooks: bool
    load_seconds: float
    leave_seconds: float
    is_proven: bool = False
    """Its hooks have loaded once. From then on a process that dies is restarted, and holds up no rollout."""
    is_bad: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class HooksSupervisor:
    """Owns the table of hooks processes. It only decides; it has no side effects."""

    def __init__(self) -> None:
        self.serving = 0
        self.processes: dict[int, HooksProcess] = {}
        self.wake_at: float | None = None
        self._generations: dict[int, _Generation] = {}
        self._last_serial = 0
        self._now = 0.0
        self._is_empty = False
        self._end_at: float | None = None
        self._end_seconds = 0.0
        self._actions: list[Action] = []

    @property
    def has_hooks(self) -> bool:
        """Whether a process receives the events of this moment, now or later."""
        generation = self._generations.get(self.serving)
        if self._end_at is None and generation is not None and generation.has_hooks:
            return True
        return any(
            each.told_at is not None or (each.generation == self.serving and each.state is not HookState.ENDING)
            for each in self.processes.values()
        )

    @property
    def shown(self) -> HooksProcess | None:
        """The process that the status shows: the one that receives the events, or else the next one to do so."""
        told = (each for each in self.processes.values() if each.told_at is not None)
        return next(told, None) or next(iter(self.processes.values()), None)

    def is_held_up(self, generation: int) -> bool:
        """Whether the load of a generation waits for its hooks."""
        known = self._generations.get(generation)
        return known is not None and known.has_hooks and not known.is_proven

    def step(self, event: Event, now: float) -> list[Action]:
        """Process `event` at `now` (seconds, time.monotonic()). Returns the actions to carry out, in order."""
        self._now, self._actions, self._is_empty = now, [], isinstance(event, Emptied)
        self._take_in(event)
        self.wake_at = None
        self._decide()
        return self._actions

    # ---- events

    def _take_in(self, event: Event) -> None:
        match event:
            case GenerationBegins(number, has_hooks, load_seconds, leave_seconds, is_proven):
                begun = _Generation(has_hooks, load_seconds, leave_seconds, is_proven)
                self._generations.setdefault(number, begun)
                self.serving = self.serving or number
            case GenerationServes(number):
                self.serving = number
                self._generations = {each: known for each, known in self._generations.items() if each == number}
            case Loaded(serial) if process := self._in_state(serial, HookState.LOADING):
                self._loaded(process)
            case Failed(serial, reason, permanent) if process := self._in_state(serial, HookState.LOADING):
                process.failure, process.is_permanent = reason, permanent
            case Gone(serial, how) if process := self.processes.pop(serial, None):
                self._gone(process, process.failure or how)
            case Stop(seconds):
                until = self._now + seconds
                if self._end_at is None or until < self._end_at:
                    self._end_at, self._end_seconds = until, seconds

    def _in_state(self, serial: int, state: HookState) -> HooksProcess | None:
        process = self.processes.get(serial)
        return process if process is not None and process.state is state else None

    def _loaded(self, process: HooksProcess) -> None:
        process.move(HookState.READY)
        process.deadline, process.is_looked_at = None, False
        generation = self._generations.get(process.generation)
        if generation is not None and not generation.is_proven:
            generation.is_proven = True
            self._actions.append(Good(process.generation))

    def _gone(self, process: HooksProcess, how: str) -> None:
        generation = self._generations.get(process.generation)
        was_ended = process.state in (HookState.LEAVING, HookState.ENDING) and not process.failure
        if was_ended or generation is None:
            return
        if not generation.is_proven:
            generation.is_bad = True
            self._actions.append(Bad(process.generation, how, process.is_permanent))
            return
        told_for = 0.0 if process.told_at is None else self._now - process.told_at
        generation.backoff = generation.backoff.after_failure(self._now, told_for)
        retry_in = max(0.0, generation.backoff.not_before - self._now)
        self._actions.append(Died(process.serial, process.generation, how, retry_in))

    # ---- decisions

    def _decide(self) -> None:
        for process in list(self.processes.values()):
            self._end_if_over(process)
            self._look_if_slow(process)
        if self._end_at is None:
            for number, generation in self._generations.items():
                self._start_if_wanted(number, generation)
        self._tell_one()
        if self._end_at is not None and not self.processes:
            self._actions.append(Finished())

    def _end_if_over(self, process: HooksProcess) -> None:
        if process.state is HookState.ENDING:
            return
        if process.deadline is not None and self._due(process.deadline):
            self._kill_late(process)
        elif self._end_at is not None and self._due(self._end_at):
            self._kill(process, "it did not handle the remaining events before the end")
        elif process.state is HookState.TOLD and self._has_been_told_all(process):
            process.move(HookState.LEAVING)
            self._actions.append(Leave(process.serial))
        elif process.state in (HookState.LOADING, HookState.READY) and self._is_not_wanted(process):
            late = ", and it has not imported its module yet" if process.state is HookState.LOADING else ""
            self._kill(process, f"its generation is over{late}")

    def _look_if_slow(self, process: HooksProcess) -> None:
        """Show the stacks at half of the time limit, so that the log has them when the process is killed at its end."""
        if process.is_looked_at or process.state is HookState.ENDING:
            return
        if process.state is HookState.LOADING:
            self._look_at_half(process, process.deadline, process.load_seconds, "still importing")
        elif process.deadline is not None:
            self._look_at_half(process, process.deadline, process.leave_seconds, "its generation is over: still busy")
        else:
            self._look_at_half(process, self._end_at, self._end_seconds, "clusterd is to end: still busy")

    def _look_at_half(self, process: HooksProcess, until: float | None, seconds: float, what: str) -> None:
        if until is not None and self._due(until - seconds / 2):
            process.is_looked_at = True
            self._actions.append(ShowStacks(process.serial, f"{what} after {seconds / 2:.1f} s"))

    def _has_been_told_all(self, process: HooksProcess) -> bool:
        """Whether a process that receives the events may leave.

        It leaves at once if the next generation has hooks. If not, it first receives the events that wait.
        """
        if process.generation == self.serving:
            return self._end_at is not None and self._is_empty
        if process.deadline is None:
            process.deadline = self._now + process.leave_seconds
            self._due(process.deadline)
        successor = self._generations.get(self.serving)
        return self._is_empty or (successor is not None and successor.has_hooks)

    def _is_not_wanted(self, process: HooksProcess) -> bool:
        if self._end_at is not None and process.generation != self.serving:
            return True
        return process.generation not in self._generations

    def _start_if_wanted(self, number: int, generation: _Generation) -> None:
        if not generation.has_hooks or generation.is_bad:
            return
        if any(each.generation == number for each in self.processes.values()):
            return
        if self._due(generation.backoff.not_before):
            # Negative, because the supervisor's serials count up and both kinds share the process table.
            self._last_serial -= 1
            deadline = self._now + generation.load_seconds
            process = HooksProcess(
                self._last_serial, number, generation.leave_seconds, generation.load_seconds, deadline
            )
            self.processes[process.serial] = process
            self._due(deadline - generation.load_seconds / 2)
            self._actions.append(Start(process.serial, number))

    def _tell_one(self) -> None:
        if any(each.told_at is not None for each in self.processes.values()):
            return  # The next process waits until that one has ended.
        for process in self.processes.values():
            if process.generation == self.serving and process.state is HookState.READY:
                process.move(HookState.TOLD)
                process.told_at = self._now
                self._actions.append(Tell(process.serial))
                return

    def _kill_late(self, process: HooksProcess) -> None:
        if process.state is HookState.LOADING:
            process.failure = "not imported within rollout.boot_timeout"
        self._kill(process, process.failure or "it did not finish its last event in time")

    def _kill(self, process: HooksProcess, reason: str) -> None:
        process.move(HookState.ENDING)
        self._actions.append(Kill(process.serial, reason))

    def _due(self, at: float) -> bool:
        if self._now >= at:
            return True
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at
        return False
