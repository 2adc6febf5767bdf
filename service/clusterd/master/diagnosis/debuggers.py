"""Debuggers in workers. An operator asks for one; the master knows its address for as long as it listens."""

import asyncio
import ipaddress
from collections.abc import Callable

from clusterd.config.model import TcpAddress
from clusterd.log import Logger
from clusterd.master.children.child import Child
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.records import dataclass
from clusterd.supervisor.events import DebuggerListens, Event
from clusterd.wire.messages import StartDebugger

ANSWER_SECONDS = 15.0
"""How long a worker may take to import debugpy and answer. It takes about a second in an idle worker."""

SPARED = "timeouts.hang, timeouts.request, limits.max_requests and limits.max_memory do not end this worker any more"


@dataclass(frozen=True, slots=True)
class NoDebugger:
    """Why no debugger can attach, and what to do about it."""

    reason: str


Tell = Callable[[TcpAddress | NoDebugger], None]


class Debuggers:
    """Asks workers to start a debugger, and passes the outcome to the callers."""

    def __init__(
        self,
        children: Children,
        configurations: Configurations,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        post_event: Callable[[Event], None],
    ) -> None:
        self._children = children
        self._configurations = configurations
        self._loop = loop
        self._log = log
        self._post_event = post_event
        self._asked: dict[int, list[Tell]] = {}
        """The callers that wait for the answer of a worker, by its serial."""
        self._unanswered: set[int] = set()
        """The workers that have not answered yet, by serial.

        A worker stays here when its callers have given up, so that requests do not pile up in its channel.
        """

    def start(self, worker: Child, tell: Tell) -> None:
        """Start a debugger in `worker`. Calls `tell` once, with its address or a NoDebugger.

        It does so within ANSWER_SECONDS.
        """
        address = self._address(worker)
        if worker.debugger is not None:
            tell(worker.debugger)
        elif address is None:
            how = "set debug.port in the configuration, and reload"
            tell(NoDebugger(f"debug.port is off in generation {worker.generation}, which this worker is of: {how}"))
        else:
            self._asked.setdefault(worker.serial, []).append(tell)
            if worker.serial not in self._unanswered:
                self._unanswered.add(worker.serial)
                self._children.send(worker, StartDebugger(address.host, address.port))
            self._loop.call_later(ANSWER_SECONDS, self._give_up, worker, tell)

    def told(self, worker: Child, failure: str) -> None:
        """Handle the answer of a worker. `failure` is empty if its debugger listens."""
        if worker.serial not in self._unanswered:
            return  # It spares the worker from limits, so a worker cannot just say so.
        self._unanswered.discard(worker.serial)
        address = self._address(worker)
        if address is not None and not failure and worker.debugger is None:
            worker.debugger = address
            self._log.warning(f"debuggers may attach at {address}: {SPARED}", **worker.fields())
            self._post_event(DebuggerListens(worker.serial))
        for tell in self._asked.pop(worker.serial, ()):
            tell(worker.debugger or NoDebugger(failure))

    def ended(self, worker: Child) -> None:
        """Answer the callers that wait for a worker that has ended."""
        self._unanswered.discard(worker.serial)
        for tell in self._asked.pop(worker.serial, ()):
            tell(NoDebugger(f"worker {worker.slot} (pid {worker.pid}) has ended meanwhile; ask again"))

    def _give_up(self, worker: Child, tell: Tell) -> None:
        waiting = self._asked.get(worker.serial, [])
        if tell in waiting:
            waiting.remove(tell)
            how = (
                f"`clusterctl stacks {worker.slot}` shows what holds it up; `clusterctl workers`, whether it has since"
            )
            tell(NoDebugger(f"worker {worker.slot} has not answered within {ANSWER_SECONDS:g} s: {how}"))

    def _address(self, worker: Child) -> TcpAddress | None:
        settings = self._configurations.of(worker.generation).debug
        return None if settings.port is None else TcpAddress(settings.host, settings.port + worker.slot)


def how_to_attach(worker: Child, address: TcpAddress) -> str:
    """Instructions for the operator: the address, a configuration for VS Code, and how long the debugger lasts."""
    connect = f'"connect": {{"host": "{address.host}", "port": {address.port}}}'
    return "\n".join(
        (
            f"worker {worker.slot} (pid {worker.pid}) waits for a debugger at {address}",
            f'VS Code: {{"type": "debugpy", "request": "attach", {connect}}}',
            f"from another machine: ssh -N -L {address.port}:{address} THIS-MACHINE",
            f"A reload or restart ends this worker, and its debugger; {SPARED}.",
        )
    )


def warnings_of(address: TcpAddress) -> list[str]:
    """Warnings for the operator that asked for the debugger."""
    if ipaddress.ip_address(address.host).is_loopback:
        return []
    return [f"{address} is no loopback address: a client that reaches it can do all that this worker can (debug.host)"]
