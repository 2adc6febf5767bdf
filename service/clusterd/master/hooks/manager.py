"""Run the hooks processes and pass them the worker events. The master never waits for them.

`master/hooks/decisions/processes.py` decides which processes run; this module carries that out.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from clusterd.config.model import Config
from clusterd.master.children.child import Child, Death
from clusterd.master.context import MasterContext
from clusterd.master.event_queue import EventQueue
from clusterd.master.hooks.decisions import steps
from clusterd.master.hooks.decisions.feed import Feed
from clusterd.master.hooks.decisions.processes import HooksSupervisor
from clusterd.master.hooks.delivery import Counts, HooksQueue, refuse
from clusterd.master.hooks.link import HooksLink
from clusterd.master.operations import Operations
from clusterd.metrics.page.facts import HooksFacts
from clusterd.records import dataclass
from clusterd.supervisor import actions, events
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.states import TemplateState
from clusterd.wire.conversation import Incoming
from clusterd.wire.hooks import WorkerEvent
from clusterd.wire.messages import Ack, AppMessage

END_SECONDS = 5.0
"""How long the handlers may take for the remaining events at the end, when everything else has ended."""

HOOKS = "hooks"
"""The part that fails to load, in events.TemplateFailed."""
NO_HOOKS = "no hooks answer requests in the master: name their module in the setting hooks"
MOMENT_SECONDS = 0.05
"""The load time of hooks ends this much before that of the template, so that the error names the hooks when they are
the cause."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a program of the master."""

    restarts: int
    counts: Counts


class Hooks:
    """The `Observer` (context.py) for the application's hooks. Without hooks it only records how the workers are."""

    def __init__(self, context: MasterContext, operations: Operations) -> None:
        self._context = context
        self._operations = operations
        self._configurations = context.configurations
        self._log = log = context.log
        self._supervisor = HooksSupervisor()
        self._queue = HooksQueue(Feed(), log, lambda: self._step(steps.Emptied()), self._let_leave, self._show_stacks)
        self._events = EventQueue(self._decide)
        self._wake: asyncio.TimerHandle | None = None
        self._pinned: dict[int, Config] = {}
        self._templates: dict[int, int] = {}
        """The last template of each generation."""
        self._held_up: dict[int, int] = {}
        """By generation, the template that has loaded before the hooks of its generation."""
        self._bad: dict[int, steps.Bad] = {}
        """By generation, why its hooks do not load."""
        self._restarts = 0
        self._failure: tuple[str, float] | None = None
        """How the last process died and when the next one starts; None while a process receives events."""
        self._then: Callable[[], None] | None = None

    # ---- from one program of the master to the next

    @property
    def are_busy(self) -> bool:
        """Whether events or messages wait for the hooks."""
        return self._supervisor.has_hooks and self._queue.waiting > 0

    def kept(self) -> Kept:
        """What another program of the master goes on with."""
        return Kept(self._restarts, replace(self._queue.counts))

    def resume(self, kept: Kept, workers: Iterable[WorkerEvent]) -> None:
        """Start a hooks process of the generation that serves. `workers` are the last events of the living ones."""
        self._restarts, self._queue.counts = kept.restarts, replace(kept.counts)
        for each in workers:
            self._queue.pass_over(each)
        cluster = self._context.cluster
        config = self._configurations.of(cluster.serving)
        self._begin(cluster.serving, config, is_proven=True)
        self._step(steps.GenerationServes(cluster.serving))
        for template in cluster.table.templates.values():
            if template.state is TemplateState.LOADING and self._configurations.has(template.generation):
                self._templates[template.generation] = template.serial
                self._begin(template.generation, self._configurations.of(template.generation))

    def _begin(self, generation: int, config: Config, *, is_proven: bool = False) -> None:
        load, leave = config.rollout.boot_timeout - MOMENT_SECONDS, config.timeouts.drain
        self._step(steps.GenerationBegins(generation, config.hooks is not None, load, leave, is_proven))

    # ---- the observer (context.py)

    def note_event(self, event: events.Event) -> None:
        """End the wait for the hooks if an urgent stop is requested during it."""
        if self._then is None or not isinstance(event, events.StopAsked):
            return
        if event.urgency is not events.Urgency.DRAIN:
            self._step(steps.Stop(0.0))

    def note_action(self, action: actions.Action) -> None:
        """Note that a generation begins or serves."""
        match action:
            case actions.StartTemplate(serial, generation):
                self._templates[generation] = serial
                self._begin(generation, self._configurations.of(generation))
                if self._context.supervisor.cluster.phase is Phase.STARTING:
                    # Each attempt of the first start is a generation of its own, and no RolloutEnded follows it.
                    self._step(steps.GenerationServes(generation))
                if generation in self._bad:
                    # The hooks failed before this template was started in place of one that could not be forked.
                    self._tell_bad(serial, self._bad[generation])
            case actions.RolloutEnded(_, generation):
                self._step(steps.GenerationServes(generation))
                self._queue.say_if_empty()

    def message_received(self, incoming: Incoming, worker_event: WorkerEvent) -> None:
        """Queue a message of the application in a worker for the hooks, or refuse it if there are none."""
        if self._supervisor.has_hooks:
            self._queue.add_message(worker_event, incoming)
        else:
            refuse(incoming, NO_HOOKS)

    def note_worker_event(self, worker_event: WorkerEvent) -> None:
        """Queue a worker event for the hooks."""
        if self._supervisor.has_hooks:
            self._queue.add_event(worker_event)
        else:
            self._queue.pass_over(worker_event)

    # ---- messages of children (child_events.py)

    def template_loaded(self, child: Child) -> None:
        """Report a loaded template to the supervisor, once the hooks of its generation are loaded too."""
        if self._supervisor.is_held_up(child.generation):
            self._held_up[child.generation] = child.serial
        else:
            self._context.post_event(events.TemplateLoaded(child.serial))

    def holds_up(self, child: Child) -> bool:
        """Whether a template has loaded, and waits for the hooks of its generation."""
        return self._held_up.get(child.generation) == child.serial

    def loaded(self, child: Child) -> None:
        """A hooks process has imported its module."""
        self._step(steps.Loaded(child.serial))

    def load_failed(self, child: Child, reason: str, *, permanent: bool) -> None:
        """A hooks process could not import its module; `permanent` as in steps.Failed."""
        self._step(steps.Failed(child.serial, reason, permanent))

    def said(self, child: Child, message: AppMessage | Ack) -> None:
        """A hooks process has handled an entry, or asks for an operation."""
        self._queue.said(child.serial, message)

    def gone(self, death: Death, how: str) -> None:
        """A hooks process was reaped, or was never created."""
        self._queue.gone(death.child.serial, how)
        self._step(steps.Gone(death.child.serial, how))

    # ---- the end

    def finish(self, *, at_once: bool, then: Callable[[], None]) -> None:
        """End the hooks. `then` is called when they have handled every event, or after END_SECONDS.

        With `at_once` they are ended without that time.
        """
        self._then = then
        if self._queue.waiting and not at_once:
            text = f"waiting for the hooks to handle the remaining events, for {END_SECONDS:g} s at most"
            self._log.info(text, waiting=self._queue.waiting, busy_with=self._queue.busy_with)
        self._step(steps.Stop(0.0 if at_once else END_SECONDS))
        self._queue.say_if_empty()

    def _finished(self) -> None:
        self._queue.give_up_rest()
        if self._then is not None:
            then, self._then = self._then, None
            then()

    # ---- carrying out decisions

    def _step(self, event: steps.Event) -> None:
        if not self._events.take(event):
            return
        if self._wake is not None:
            self._wake.cancel()
        at = self._supervisor.wake_at
        self._wake = None if at is None else self._context.loop.call_at(at, self._step, steps.Tick())
        if not self._supervisor.has_hooks:
            self._queue.give_up_rest()

    def _decide(self, event: steps.Event) -> None:
        for action in self._supervisor.step(event, time.monotonic()):
            self._act(action)

    def _act(self, action: steps.Action) -> None:
        match action:
            case steps.Start(serial, generation):
                self._start(serial, generation)
            case steps.Tell(serial):
                self._failure = None
                self._log.info("hooks receive the events", **self._fields(serial))
                self._queue.begin(serial)
            case steps.Leave(serial):
                self._queue.let_go(serial)
            case steps.ShowStacks(serial, detail):
                self._show_stacks(serial, detail)
            case steps.Kill(serial, reason):
                self._log.info(f"killing the hooks process: {reason}", **self._fields(serial))
                if child := self._context.children.get(serial):
                    self._context.children.kill(child)
            case steps.Good(generation):
                if (template := self._held_up.pop(generation, None)) is not None:
                    self._context.post_event(events.TemplateLoaded(template))
            case steps.Bad():
                self._load_is_bad(action)
            case steps.Died(_, generation, how, retry_in):
                self._restarts += 1
                self._failure = how, time.monotonic() + retry_in
                retry = f"; trying again in {retry_in:.1f} s" if retry_in else ""
                self._log.error(f"the hooks process died: {how}{retry}", generation=generation)
            case steps.Finished():
                self._finished()

    def _start(self, serial: int, generation: int) -> None:
        oldest = min(self._supervisor.serving, *(each.generation for each in self._supervisor.processes.values()))
        self._pinned = {each: config for each, config in self._pinned.items() if each >= oldest}
        if generation not in self._pinned:
            if not self._configurations.has(generation):
                # Its rollout has failed meanwhile. An end of the hooks would wait for this process for ever.
                self._step(steps.Gone(serial, "its generation is over"))
                return
            self._pinned[generation] = _pinned(self._configurations.of(generation))
        try:
            child = self._context.processes.start_hooks(serial, generation, self._pinned[generation])
        except OSError as error:
            # The usual reason is that descriptors, processes or memory have run out.
            self._step(steps.Gone(serial, f"clusterd cannot start it: {error.strerror or error}"))
            return
        link = HooksLink(child, self._context, self._operations, partial(self._queue.settled, serial))
        self._queue.connect(serial, link)

    def _load_is_bad(self, bad: steps.Bad) -> None:
        """Report hooks that do not load as a template that does not load: the start or the reload fails."""
        self._held_up.pop(bad.generation, None)
        if not bad.reason.startswith("hooks: "):
            config = self._pinned.get(bad.generation)
            name = "" if config is None else f"{config.hooks}: "
            bad = replace(bad, reason=f"hooks: {name}{bad.reason}")
        self._bad = {bad.generation: bad}
        self._tell_bad(self._templates[bad.generation], bad)

    def _tell_bad(self, template: int, bad: steps.Bad) -> None:
        self._context.post_event(events.TemplateFailed(template, bad.reason, HOOKS, bad.permanent))

    def _let_leave(self, serial: int) -> None:
        """Close the channel of a hooks process, which then ends."""
        child = self._context.children.get(serial)
        if child is not None and child.channel is not None:
            child.channel.close()
            child.channel = None

    def _show_stacks(self, serial: int, why: str) -> None:
        if child := self._context.children.get(serial):
            fields = child.fields()
            self._context.stacks.threads(
                child, lambda text: self._log.warning(f"hooks process: {why}\n{text}".rstrip(), **fields)
            )

    def _fields(self, serial: int) -> dict[str, object]:
        child = self._context.children.get(serial)
        return child.fields() if child is not None else {}

    # ---- status

    def look(self) -> None:
        """Check whether a handler is stuck. Called a few times a second."""
        if self._supervisor.has_hooks:
            self._queue.look(self._configurations.of(self._supervisor.serving).timeouts.hang / 2)

    @property
    def child(self) -> Child | None:
        """The process that receives the events, or else the next one to do so; None if there is none."""
        process = self._supervisor.shown
        return None if process is None else self._context.children.get(process.serial)

    def facts(self) -> HooksFacts | None:
        """The state of the hooks; None if there are none and none are expected."""
        if not self._supervisor.has_hooks:
            return None
        process = self._supervisor.shown
        child = self.child
        is_told = process is not None and process.state is steps.HookState.TOLD
        failure, retry_at = (None if is_told else self._failure) or (None, None)
        generation = self._supervisor.serving if process is None else process.generation
        counts = self._queue.counts
        return HooksFacts(
            module=self._pinned[generation].hooks or "",
            pid=None if child is None else child.pid,
            generation=generation,
            state="down" if process is None else process.state.value,
            is_told=is_told,
            waiting=self._queue.waiting,
            busy_seconds=round(self._queue.busy_seconds, 3),
            busy_with=self._queue.busy_with,
            failure=failure,
            retry_seconds=None if retry_at is None else round(max(0.0, retry_at - time.monotonic()), 3),
            restarts=self._restarts,
            events_dropped=counts.events_dropped,
            messages_dropped=counts.messages_dropped,
            cut=counts.cut,
        )


def _pinned(config: Config) -> Config:
    """Resolve the symbolic links of a configuration, so that a later restart loads the same code again."""
    directory, name = os.path.split(config.python)
    return replace(
        config,
        directory=os.path.realpath(config.directory),
        python=os.path.join(os.path.realpath(directory), name),
    )
