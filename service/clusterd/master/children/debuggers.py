"""Debuggers in workers: started where an operator asks for one, and known to the master for as long as they listen."""

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from clusterd.config.model import TcpAddress
from clusterd.log import Logger
from clusterd.master.children.table import Child, Children
from clusterd.master.configurations import Configurations
from clusterd.supervisor.events import DebuggerListens, Event
from clusterd.wire.messages import StartDebugger

ANSWER_SECONDS = 15.0
"""For a worker to import debugpy and say so: a second where nothing holds it up."""

SPARED = "timeouts.hang, timeouts.request, limits.max_requests and limits.max_memory do not end this worker any more"


@dataclass(frozen=True, slots=True)
class NoDebugger:
    """Why none can attach, and what to do about it."""

    reason: str


Tell = Callable[[TcpAddress | NoDebugger], None]


class Debuggers:
    """Asks workers to let debuggers attach, and tells who wants to know how that went."""

    def __init__(
        self,
        children: Children,
        configurations: Configurations,
        loop: asyncio.AbstractEventLoop,
        log: Logger,
        happened: Callable[[Event], None],
    ) -> None:
        self._children = children
        self._configurations = configurations
        self._loop = loop
        self._log = log
        self._happened = happened
        self._asked: dict[int, list[Tell]] = {}
        """Who waits for the answer of a worker, by its serial."""
        self._unanswered: set[int] = set()
        """Those that were asked, and may be after nobody waits any more: questions would pile up in their channels."""

    def start(self, worker: Child, tell: Tell) -> None:
        """Call `tell` with where a debugger may attach to `worker`; in bounded time, and once."""
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
        """A worker has answered."""
        self._unanswered.discard(worker.serial)
        address = self._address(worker)
        if address is not None and not failure and worker.debugger is None:
            worker.debugger = address
            self._log.warning(f"debuggers may attach at {address}: {SPARED}", **worker.fields())
            self._happened(DebuggerListens(worker.serial))
        for tell in self._asked.pop(worker.serial, ()):
            tell(worker.debugger or NoDebugger(failure))

    def ended(self, worker: Child) -> None:
        """A worker is gone."""
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
    """For people: where, with what, and for how long."""
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
    """What whoever asked for it should know."""
    if ipaddress.ip_address(address.host).is_loopback:
        return []
    return [f"{address} is no loopback address: whoever can reach it can do whatever this worker can (debug.host)"]
