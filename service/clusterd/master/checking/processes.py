"""The processes of a check: started as the master starts them, without a listening socket, and never told to serve."""

import asyncio
import signal

from clusterd.config.model import Config, HealthCheck
from clusterd.linux.wakeups import Wakeups
from clusterd.log import Logger
from clusterd.master.children.child import Child, Death
from clusterd.master.children.conversations import Conversations
from clusterd.master.children.processes import Processes
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.diagnosis.stacks import StackReader
from clusterd.master.health.health_check import check_worker
from clusterd.master.hooks.delivery import refuse
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.records import dataclass
from clusterd.supervisor import actions
from clusterd.supervisor.decisions.deadlines import ENDING_SECONDS
from clusterd.wire import messages
from clusterd.wire.channel import Received
from clusterd.wire.packets import close_all

GENERATION = 1
SLOT = 1
NO_ANSWERS = "clusterd --check answers no requests of workers"
_NO_LISTENERS = Listeners(http=(), https=(), metrics=(), control=(), bound=(), bound_paths=(), passed=frozenset())


@dataclass(frozen=True, slots=True)
class Checked:
    """A process that is checked. `said` receives its messages, and its death at the end."""

    serial: int
    said: "asyncio.Queue[messages.Message | Death]"


class CheckedProcesses:
    """Starts the processes and ends them. Created by a coroutine, whose loop reaps them."""

    def __init__(self, config: Config, log: Logger) -> None:
        loop = asyncio.get_running_loop()
        self._config = config
        self._all: dict[int, Checked] = {}
        """By serial."""
        scoreboard = Scoreboard.create()
        configurations = Configurations(config, lambda: config, frozenset(), log)
        self._children = Children(loop, self._received, self._greeted, self._died)
        round_robin = RoundRobin(loop, _NO_LISTENERS, self._children, scoreboard, configurations, log)
        self._processes = Processes(
            self._children, scoreboard, Arena.create(), _NO_LISTENERS, configurations, round_robin, Wakeups.create()
        )
        self._conversations = Conversations(loop, lambda _, incoming: refuse(incoming, NO_ANSWERS))
        self._stacks = StackReader(self._children, loop, log, self._processes.in_hand)
        loop.add_signal_handler(signal.SIGCHLD, self._children.reap)

    def start_template(self, *, preload: bool, refuse_unforkable: bool) -> Checked:
        """Have a template import the application if `preload` is true. Raises OSError."""
        template = self._enter()
        self._processes.start_template(
            actions.StartTemplate(template.serial, GENERATION, preload, refuse_unforkable),
        )
        return template

    def start_hooks(self) -> Checked:
        """Have a hooks process import the hooks. Raises OSError."""
        hooks = self._enter()
        self._processes.start_hooks(hooks.serial, GENERATION, self._config)
        return hooks

    def fork(self, template: Checked) -> Checked:
        """Have a template fork a worker. Raises OSError."""
        worker = self._enter()
        self._processes.fork(actions.Fork(worker.serial, template.serial, SLOT, GENERATION))
        return worker

    async def check_health(self, worker: Checked, check: HealthCheck) -> str | None:
        """Carry out the health check, as a rollout does. Returns what is wrong."""
        child = self._children.get(worker.serial)
        return "the worker has ended" if child is None else await check_worker(self._children, child, check)

    async def stacks(self, process: Checked) -> str:
        """The stacks of the threads of a process; "" if they cannot be read."""
        child = self._children.get(process.serial)
        if child is None:
            return ""
        told = asyncio.get_running_loop().create_future()
        self._stacks.threads(child, told.set_result)
        return str(await told)

    async def retire(self, worker: Checked) -> Death:
        """Have a worker end as at a stop. Returns its death, which was forced if the drain was not long enough."""
        timeouts = self._config.timeouts
        self._processes.retire(
            actions.Retire(worker.serial, None, timeouts.drain, timeouts.drain_idle, linger=False),
        )
        return await self.ended(worker, timeouts.drain + ENDING_SECONDS)

    async def dismiss(self, process: Checked) -> Death:
        """Have a template or a hooks process end."""
        if child := self._children.get(process.serial):
            self._children.dismiss(child)
        return await self._death(process)

    async def ended(self, process: Checked, seconds: float) -> Death:
        """Wait for the end of a process. It is killed after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._death(process)
        except TimeoutError:
            self.kill(process)
            return await self._death(process)

    def kill(self, process: Checked) -> None:
        """Kill a process, unless it has ended."""
        if child := self._children.get(process.serial):
            self._children.kill(child)

    def kill_all(self) -> None:
        """Kill every process that has not ended."""
        for child in self._children.all():
            self._children.kill(child)

    async def _death(self, process: Checked) -> Death:
        while not isinstance(said := await process.said.get(), Death):
            pass
        return said

    def _enter(self) -> Checked:
        checked = Checked(len(self._all) + 1, asyncio.Queue())
        self._all[checked.serial] = checked
        return checked

    # ---- callbacks of the process table

    def _greeted(self, child: Child) -> None:
        self._children.send(child, messages.Welcome())
        self._conversations.began(child)

    def _received(self, child: Child, received: Received) -> None:
        close_all(received.descriptors)
        match received.message:
            case messages.ForkFailed(serial, reason):
                self._children.fork_refused(child, serial, reason)
            case messages.AppMessage() | messages.Ack() as said:
                self._conversations.received(child, said)
            case message:
                self._all[child.serial].said.put_nowait(message)

    def _died(self, death: Death) -> None:
        self._stacks.report_crash(death.child)
        self._conversations.ended(death.child)
        self._all[death.child.serial].said.put_nowait(death)
