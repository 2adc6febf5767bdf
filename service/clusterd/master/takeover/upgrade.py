"""Replaces the program of the master by the one on disk, in the same process (execve(2)): the upgrade in place.

Workers, templates, sockets and shared memory stay, and systemd notices nothing. Before that the new program is started
beside the old one to say whether it can go on with the state (`clusterd --can-adopt`). If it cannot, nothing changes.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from clusterd.linux.early_signals import hold_signals, let_signals_through
from clusterd.master.asking import INHERITED, output_of
from clusterd.master.takeover.collecting import Collector
from clusterd.master.takeover.state import write
from clusterd.records import dataclass
from clusterd.supervisor.events import ReloadAsked
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.states import COMING, TemplateState, WorkerState

STATE_VARIABLE = "CLUSTERD_STATE"
"""The environment variable with the descriptor of the state, for the new program."""

ANSWER_SECONDS = 30.0
"""How long the new program may take to say whether it can go on."""
ANSWER_LASTS_SECONDS = 2.0
"""How old the answer may be when the new program goes on: there may be another one on disk by then."""
QUIET_SECONDS = 60.0
"""How long the upgrade waits for a moment at which nothing is under way that only the old program knows."""
CLIENTS_SECONDS = 5.0
"""How long it waits for the clients of the master itself: scrapes, and commands that are not read yet."""
LOOKS_AT_REST = 50
"""How often it is seen, while `round_robin` accepts nothing, whether the workers have acknowledged every connection."""
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Accepted:
    """The new program goes on at once. Rollout `rollout` then replaces the workers."""

    version: str
    rollout: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changes, for this reason."""

    reason: str


Outcome = Accepted | Refused


def answer(version: str, reason: str = "") -> str:
    """Return the line with which the new program answers `--can-adopt`; with a `reason` if it cannot."""
    return json.dumps({"clusterd": version, "reason": reason})


class Upgrade:
    """Carries it out, once at a time.

    `has_clients` tells whether clients wait for an answer of the master. `before_exec` is called when the new program
    is about to go on. `impossible` says why there can be no upgrade; it is empty where there can.
    """

    def __init__(
        self,
        collector: Collector,
        has_clients: Callable[[], bool],
        before_exec: Callable[[], None],
        impossible: str,
    ) -> None:
        self._impossible = impossible
        self._has_clients = has_clients
        self._before_exec = before_exec
        self._collector = collector
        self._owners = owners = collector.owners
        self._context = owners.context
        self._log = owners.context.log
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Callable[[Outcome], None]] = []

    def ask(self, tell: Callable[[Outcome], None]) -> None:
        """Upgrade, and call `tell` with the outcome: at once before the new program goes on."""
        self._waiting.append(tell)
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
            self._task = None
        self._log.error(f"the upgrade is refused, and nothing has changed: {outcome.reason}")
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell(outcome)

    async def _attempt(self) -> Refused:
        if self._impossible:
            return Refused(self._impossible)
        found = await self._ask_new_program()
        if isinstance(found, str):
            self._log.info(f"clusterd {found} on disk can go on in this process")
        began = answered_at = self._context.loop.time()
        quiet_since: float | None = None
        while not isinstance(found, Refused):
            now, why = self._context.loop.time(), self._why_not_now()
            if now - began > QUIET_SECONDS:
                why = why or "workers do not acknowledge their connections"
                return Refused(f"it cannot be done as long as {why}: try again")
            quiet_since = None if why else quiet_since or now
            if quiet_since is not None and (now - quiet_since > CLIENTS_SECONDS or not self._has_clients()):
                if now - answered_at > ANSWER_LASTS_SECONDS:
                    found = await self._ask_new_program()
                    answered_at = self._context.loop.time()
                    continue
                found = await self._try_to_become(found) or found
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def _try_to_become(self, version: str) -> Refused | None:
        """Have everything come to rest, and execute the new program. Returns why that fails, or None to try later."""
        self._owners.round_robin.hold(True)
        # A signal from now on waits for the new program. What an earlier one has asked for is done in the next turns.
        hold_signals()
        try:
            for _ in range(LOOKS_AT_REST):
                await asyncio.sleep(LOOK_SECONDS)
                if self._owners.round_robin.is_idle:
                    break
            if not self._why_not_now() and self._owners.round_robin.is_idle:
                return self._become(version)
            return None
        finally:
            let_signals_through()
            self._owners.round_robin.hold(False)

    async def _ask_new_program(self) -> str | Refused:
        """Return the version of the program that is on disk."""
        state = write(self._collector.collect())
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
        if self._owners.hooks.are_busy:
            return "the hooks handle events"
        if not self._context.conversations.are_idle:
            return "messages of the application are under way"
        if self._context.examinations.are_under_way:
            return "a worker is examined"
        channels = [child.channel for child in self._context.children.all()]
        if any(channel is None or not channel.is_idle for channel in channels):
            return "orders to a process are under way"
        if self._context.keeper.is_busy:
            return "systemd has not stored yet what it is to keep"
        return ""

    def _become(self, version: str) -> Refused:
        """Execute the new program. Returns only if that fails; the rollout that was announced comes all the same."""
        state = self._collector.collect()
        kept = [*state.descriptors(), write(state)]
        try:
            for descriptor in kept:
                os.set_inheritable(descriptor, True)
            self._log.info(f"clusterd {version} goes on in this process", pid=os.getpid())
            self._log.finish()
            self._tell(Accepted(version, self._context.supervisor.next_rollout))
            self._before_exec()
            os.execve(sys.executable, _command(), {**os.environ, STATE_VARIABLE: str(kept[-1])})
        except OSError as error:
            self._context.post_event(ReloadAsked())
            return Refused(f"{sys.executable} cannot be executed, and this program goes on: {error.strerror}")
        finally:
            for descriptor in kept:
                os.set_inheritable(descriptor, False)
            os.close(kept[-1])


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
