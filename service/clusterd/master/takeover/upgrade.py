"""Replaces the program of the master by the one on disk, in the same process (execve(2)): the upgrade in place.

Workers, templates, sockets and shared memory stay, and systemd notices nothing. Before that the new program is started
beside the old one to say whether it can go on with the state (`clusterd --can-adopt`). If it cannot, nothing changes.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusterd.linux.early_signals import hold_signals, let_signals_through
from clusterd.master.asking import INHERITED, output_of
from clusterd.master.hooks.manager import Hooks
from clusterd.master.takeover.owners import Owners
from clusterd.master.takeover.state import write
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.states import COMING, TemplateState, WorkerState

STATE_VARIABLE = "CLUSTERD_STATE"
"""The environment variable with the descriptor of the state, for the new program."""

ANSWER_SECONDS = 30.0
"""How long the new program may take to say whether it can go on."""
QUIET_SECONDS = 60.0
"""How long the upgrade waits for a moment at which nothing is under way that only the old program knows."""
CLIENTS_SECONDS = 5.0
"""How long it waits for the clients of the master itself: scrapes, and commands that are not read yet."""
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Begins:
    """The new program goes on at once. Rollout `rollout` then replaces the workers."""

    version: str
    rollout: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changes, for this reason."""

    reason: str


Outcome = Begins | Refused


def answer(version: str, reason: str = "") -> str:
    """Return the line with which the new program answers `--can-adopt`; with a `reason` if it cannot."""
    return json.dumps({"clusterd": version, "reason": reason})


class Upgrade:
    """Carries it out, once at a time.

    `is_asked` tells whether clients wait for an answer of the master. `leave` is called when the new program is about
    to go on. `impossible` says why there can be no upgrade; it is empty where there can.
    """

    def __init__(
        self, owners: Owners, hooks: Hooks, is_asked: Callable[[], bool], leave: Callable[[], None], impossible: str
    ) -> None:
        self._impossible = impossible
        self._is_asked = is_asked
        self._leave = leave
        self._owners = owners
        self._context = owners.context
        self._log = owners.context.log
        self._hooks = hooks
        self._task: asyncio.Task[None] | None = None
        self._told: list[Callable[[Outcome], None]] = []

    def ask(self, tell: Callable[[Outcome], None]) -> None:
        """Upgrade, and call `tell` with the outcome: at once before the new program goes on."""
        self._told.append(tell)
        if self._task is None:
            self._task = self._context.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            outcome = await self._attempt()
        except OSError as error:
            outcome = Refused(f"{error.strerror or error}")
        except Exception as error:
            self._log.exception("the upgrade failed", error)
            outcome = Refused(f"clusterd failed: {error}")
        finally:
            self._owners.round_robin.hold(False)
            self._task = None
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if isinstance(outcome, Refused):
            self._log.error(f"the upgrade is refused, and nothing has changed: {outcome.reason}")
        told, self._told = self._told, []
        for tell in told:
            tell(outcome)

    async def _attempt(self) -> Refused:
        if self._impossible:
            return Refused(self._impossible)
        found = await self._ask_new_program()
        if isinstance(found, Refused):
            return found
        began = self._context.loop.time()
        while (why := self._why_not_now() or self._what_is_accepted()) or self._is_asked():
            waited = self._context.loop.time() - began
            if why and waited > QUIET_SECONDS:
                return Refused(f"it cannot be done as long as {why}: try again")
            if not why and waited > CLIENTS_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return self._become(found)

    async def _ask_new_program(self) -> str | Refused:
        """Return the version of the program that is on disk."""
        state = write(self._owners.collect())
        environment = {**os.environ, STATE_VARIABLE: str(INHERITED)}
        try:
            output = await output_of([*_command(), "--can-adopt"], environment, ANSWER_SECONDS, inherited=state)
        except TimeoutError:
            return Refused(f"the new program has not answered within {ANSWER_SECONDS:g} s")
        finally:
            os.close(state)
        return _read_answer(output)

    def _why_not_now(self) -> str:
        """What is under way that only this program knows; empty if nothing is."""
        self._owners.round_robin.hold(False)
        cluster = self._context.cluster
        if cluster.phase is not Phase.RUNNING or cluster.stop_is_announced:
            return f"clusterd is {cluster.phase.value}" if not cluster.stop_is_announced else "clusterd stops"
        if cluster.rollout is not None or cluster.reload_pending:
            return "a reload is under way"
        if cluster.restarts:
            return "a worker is restarted"
        if cluster.table.in_state(*COMING, WorkerState.ENDING):
            return "a worker starts or is killed"
        if any(each.state not in _SETTLED for each in cluster.table.templates.values()):
            return "a template starts or ends"
        if self._hooks.are_busy:
            return "the hooks handle events"
        if not self._context.conversations.are_idle:
            return "messages of the application are under way"
        if self._context.examinations.are_under_way:
            return "a worker is examined"
        channels = [child.channel for child in self._context.children.all()]
        if any(channel is None or not channel.is_idle for channel in channels):
            return "orders to a process are under way"
        return ""

    def _what_is_accepted(self) -> str:
        """The same for connections of `scheduling: round_robin`. From now on the master accepts none."""
        self._owners.round_robin.hold(True)
        return "" if self._owners.round_robin.is_idle else "workers do not take their connections"

    def _become(self, version: str) -> Refused:
        """Execute the new program. Returns only if that fails."""
        state = self._owners.collect()
        kept = [*state.descriptors(), write(state)]
        self._log.info(f"clusterd {version} goes on in this process", pid=os.getpid())
        self._log.finish()
        self._tell(Begins(version, self._context.supervisor.next_rollout))
        self._leave()
        # A signal from now on waits for the new program.
        hold_signals()
        try:
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            os.execve(sys.executable, _command(), {**os.environ, STATE_VARIABLE: str(kept[-1])})
        except OSError as error:
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            os.close(kept[-1])
            let_signals_through()
            return Refused(f"{sys.executable} cannot be executed: {error.strerror}")


_SETTLED = frozenset({TemplateState.LOADED, TemplateState.SPARE})


def _command() -> list[str]:
    """The command line of this process, which starts what is on disk now."""
    return [sys.executable, *sys.orig_argv[1:]]


def _read_answer(output: str) -> str | Refused:
    lines = output.strip().splitlines()
    try:
        document: Any = json.loads(lines[-1]) if lines else None
    except ValueError:
        document = None
    match document:
        case {"clusterd": str(version), "reason": ""}:
            return version
        case {"clusterd": str(version), "reason": str(reason)}:
            return Refused(f"clusterd {version}: {reason}")
    last = lines[-1] if lines else "it said nothing"
    return Refused(f"the new program cannot be started: {last}")


def state_descriptor() -> int | None:
    """Return the descriptor of the state that an earlier program has left to this one, if one has. Call it once."""
    text = os.environ.pop(STATE_VARIABLE, "")
    return int(text) if text.isdecimal() else None
