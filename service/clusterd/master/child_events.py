"""Translate the messages and the deaths of child processes into events for the supervisor."""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TypeVar

from clusterd.config.model import HealthCheck
from clusterd.master.admin.application_metrics import ApplicationMetrics
from clusterd.master.children.child import Child, Death, Kind
from clusterd.master.children.in_hand import held_of
from clusterd.master.children.remains import Remains
from clusterd.master.children.table import why_unheard
from clusterd.master.context import MasterContext
from clusterd.master.health.health_check import check_worker
from clusterd.master.hooks.manager import Hooks
from clusterd.master.observing.observations import Observations
from clusterd.metrics.kernel.oom import ForMemory, MemoryKills, own_counter
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.row import Row
from clusterd.supervisor import events
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.held import NOTHING_HELD, Held
from clusterd.supervisor.model.states import EndReason, TemplateState, WorkerState
from clusterd.wire import messages
from clusterd.wire.channel import Received
from clusterd.wire.messages import ProtocolError
from clusterd.wire.packets import close_all
from clusterd.wire.values import checked

_Found = TypeVar("_Found")

_WITH_DESCRIPTOR = (messages.Loaded, messages.MetricsTold)
"""What comes with a descriptor, if with any. No other message of a child does."""


class ChildEvents:
    """Translates messages and deaths. `Children` calls its methods."""

    def __init__(
        self,
        context: MasterContext,
        ledger: Ledger,
        application_metrics: ApplicationMetrics,
        hooks: Hooks,
        remains: Remains,
        observations: Observations,
    ) -> None:
        self._context = context
        self._configurations = context.configurations
        self._scoreboard = context.scoreboard
        self._log = context.log
        self._post_event = context.post_event
        self._ledger = ledger
        self._application_metrics = application_metrics
        self._hooks = hooks
        self._remains = remains
        self._observations = observations
        self._last_traceback: tuple[int, str] | None = None
        self._health_checks: dict[int, asyncio.Task[None]] = {}
        """By the serial of the worker."""
        self.memory_kills = MemoryKills(own_counter())

    def hello(self, child: Child) -> None:
        """Handle the first message of a forked process."""
        if child.pid is None:
            return
        if child.kind is Kind.WORKER:
            self._post_event(events.WorkerHello(child.serial, child.pid))
        self._context.keeper.when_kept(child, partial(self._welcome, child))

    def _welcome(self, child: Child) -> None:
        if child.kind is Kind.SPARE:
            self._post_event(events.SpareReady(child.serial))
        else:
            self._context.children.send(child, messages.Welcome())
            self._context.conversations.began(child)

    def message(self, child: Child, received: Received) -> None:
        """Handle a message of a child. Descriptors that came with it are closed after they were read.

        Raises ProtocolError for a message that no child of this kind sends. All of them run the application's code.
        """
        try:
            if len(received.descriptors) > (1 if isinstance(received.message, _WITH_DESCRIPTOR) else 0):
                raise ProtocolError(f"{type(received.message).__name__} with {len(received.descriptors)} descriptors")
            self._handle(child, received)
        finally:
            close_all(received.descriptors)

    def _handle(self, child: Child, received: Received) -> None:
        match child.kind:
            case Kind.TEMPLATE | Kind.SPARE:  # A spare that has become the template is still called one here.
                self._on_template_message(child, received)
            case Kind.WORKER:
                self._on_worker_message(child, received)
            case Kind.HOOKS:
                self._on_hooks_message(child, received.message)

    def _on_template_message(self, child: Child, received: Received) -> None:
        match received.message:
            case messages.Importing(certificate_ends_at):
                self._observations.template_begun(child.generation, certificate_ends_at)
            case messages.Loaded() if self._is_loaded(child):
                pass  # It was told again, to a new master.
            case messages.Loaded(_, seconds):
                self._application_metrics.template_loaded(child, received.descriptors)
                self._observations.template_loaded(seconds)
                self._log.info("template ready", seconds=seconds, **child.fields())
                self._hooks.template_loaded(child)
            case messages.LoadFailed(reason, traceback, permanent):
                self._report_once(f"the application could not be loaded: {reason}", traceback, child)
                self._post_event(events.TemplateFailed(child.serial, reason, permanent=permanent))
            case messages.Unforkable(findings):
                self._post_event(events.TemplateUnforkable(child.serial, tuple(findings)))
            case messages.ForkFailed(serial, reason):
                self._context.children.fork_refused(child, serial, reason)
            case messages.Reaped() as told:
                self._context.children.reaped(child, told)
            case unexpected:
                raise _unexpected(child, unexpected)

    def _is_loaded(self, child: Child) -> bool:
        template = self._context.cluster.table.templates.get(child.serial)
        has_loaded = template is not None and template.state is not TemplateState.LOADING
        return has_loaded or self._hooks.holds_up(child)

    def _on_worker_message(self, child: Child, received: Received) -> None:
        match received.message:
            case messages.Ready():
                self._worker_ready(child)
            case messages.BootFailed(reason, traceback, permanent):
                self._report_once(f"the worker could not start: {reason}", traceback, child)
                self._post_event(events.WorkerFailed(child.serial, reason, permanent))
            case messages.SuccessorLost():
                self._post_event(events.SuccessorLost(child.serial))
            case messages.Overdue(request):
                self._post_event(events.RequestOverdue(child.serial, request))
            case messages.StacksTold(number, text):
                self._context.stacks.told(child, number, text)
            case messages.MetricsTold(number):
                self._application_metrics.told(child, number, received.descriptors)
            case messages.DebuggerTold(failure):
                self._context.debuggers.told(child, failure)
            case messages.AppMessage() | messages.Ack() as said:
                self._context.conversations.received(child, checked(said))
            case unexpected:
                raise _unexpected(child, unexpected)

    def _on_hooks_message(self, child: Child, message: messages.Message) -> None:
        match message:
            case messages.Importing():
                pass
            case messages.Loaded(_, seconds):
                self._log.info("hooks ready", seconds=seconds, **child.fields())
                self._hooks.loaded(child)
            case messages.LoadFailed(reason, traceback, permanent):
                self._report_once(f"the hooks could not be loaded: {reason}", traceback, child)
                self._hooks.load_failed(child, reason, permanent=permanent)
            case messages.AppMessage() | messages.Ack() as said:
                self._hooks.said(child, checked(said))
            case unexpected:
                raise _unexpected(child, unexpected)

    def _report_once(self, what: str, traceback: str, child: Child) -> None:
        """Log the full traceback, unless it is the one logged last in this generation, or in this start.

        A slot or a start that keeps failing in the same way then adds one line for each failure.
        """
        of = 0 if self._context.cluster.phase is Phase.STARTING else child.generation
        if traceback and (of, traceback) != self._last_traceback:
            self._last_traceback = of, traceback
            self._log.error(f"{what}\n{traceback}", **child.fields())

    def _worker_ready(self, child: Child) -> None:
        check = self._configurations.of(child.generation).rollout.health_check
        if check is None:
            self._post_event(events.WorkerReady(child.serial))
            return
        worker = self._context.cluster.table.workers.get(child.serial)
        if worker is None or worker.state is not WorkerState.BOOTING or child.serial in self._health_checks:
            return  # It is ready once. Each check has a connection, and there may be no end of them.
        task = self._context.loop.create_task(self._check_health(child, check))
        self._health_checks[child.serial] = task
        task.add_done_callback(lambda _: self._health_checks.pop(child.serial, None))

    async def _check_health(self, child: Child, check: HealthCheck) -> None:
        wrong = await check_worker(self._context.children, child, check)
        if wrong is None:
            self._post_event(events.WorkerReady(child.serial))
        else:
            self._post_event(events.WorkerFailed(child.serial, wrong))

    def death(self, death: Death) -> None:
        """Handle the end of a child that was reaped, or whose process was never created.

        The supervisor hears of it, whatever the master cannot do: it would wait for this child for ever.
        """
        child = death.child
        for_memory = self._tried(lambda: self._is_for_memory(death), ForMemory.NO)
        if for_memory is not ForMemory.NO:
            sure = "" if for_memory is ForMemory.SURELY else "probably "
            death = replace(death, how=f"{death.how} by the kernel, {sure}for want of memory")
        self._tried(lambda: self._context.stacks.report_crash(child), None)
        if child.kind is Kind.HOOKS:
            is_explained = child.is_heard or child.doomed
            self._hooks.gone(death, death.how if is_explained else self._why_unheard(death))
            return
        if child.kind is Kind.TEMPLATE and not child.is_heard and not child.doomed:
            self._post_event(events.TemplateFailed(child.serial, self._why_unheard(death), permanent=True))
        if child.kind is not Kind.WORKER:
            self._post_event(events.TemplateGone(child.serial, death.how))
            return
        held = self._tried(lambda: self._settle(death), NOTHING_HELD)
        is_for_memory = for_memory is not ForMemory.NO
        self._post_event(events.WorkerGone(child.serial, death.how, death.by_signal, death.code, is_for_memory, held))

    def _tried(self, handle: Callable[[], _Found], otherwise: _Found) -> _Found:
        """Return what `handle` returns; `otherwise` if it fails, which is logged."""
        try:
            return handle()
        except Exception as error:
            self._log.exception("a death was not handled as a whole", error)
            return otherwise

    def _settle(self, death: Death) -> Held:
        """Keep what a worker has counted, give up what was its own, and return the requests that it had in hand."""
        child = death.child
        self._context.conversations.ended(child)
        self._context.debuggers.ended(child)
        self._context.examinations.ended(child)
        if child.pid is not None:
            worker = self._context.cluster.table.workers.get(child.serial)
            drains = worker is not None and worker.state is WorkerState.DRAINING
            self._remains.worker_gone(child.pid, worker.deadline if worker and drains else 0.0)
            if child.row is not None and worker is not None and worker.end is EndReason.HANG:
                Row.timeouts.add(self._scoreboard.row(child.row), "hang")
        if child.row is None:
            return NOTHING_HELD
        held = held_of(self._context.processes.in_hand(child), monotonic())
        self._ledger.fold(child.slot, self._scoreboard.row(child.row), death.cpu_seconds)
        self._application_metrics.ended(child)
        self._context.keeper.after_write(partial(self._scoreboard.release, child.row))
        return held

    def _is_for_memory(self, death: Death) -> ForMemory:
        """Whether the kernel killed the child because memory ran out, if clusterd knows of no other sender."""
        child = death.child
        if death.code != -signal.SIGKILL or child.doomed or child.signal_asked_for or child.pid is None:
            return ForMemory.NO
        return self.memory_kills.judge(child.pid, monotonic())

    def _why_unheard(self, death: Death) -> str:
        if not self._configurations.has(death.child.generation):  # Hooks may outlive their generation.
            return death.how
        return why_unheard(death, self._configurations.of(death.child.generation).python)


def _unexpected(child: Child, message: messages.Message) -> ProtocolError:
    return ProtocolError(f"{type(message).__name__} of a {child.kind.value}")
