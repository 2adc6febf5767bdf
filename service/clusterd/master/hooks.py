"""The hooks of the application: told what happens, in a process of their own, and never waited for.

What there is to be is decided in `supervisor/hooks.py`, what is told next in `supervisor/feed.py`; here it is done.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from clusterd.config.model import Config
from clusterd.log import Logger
from clusterd.master.children import Child, Death
from clusterd.master.configurations import Configurations
from clusterd.master.hooks_link import HooksLink, size_of
from clusterd.master.orders import Orders
from clusterd.master.program import Parts
from clusterd.master.teller import Teller
from clusterd.metrics.facts import HooksFacts
from clusterd.supervisor import actions, events, hooks
from clusterd.supervisor.feed import Entry, Feed
from clusterd.systemd.sockets import address_text
from clusterd.wire.conversation import Disconnected, Incoming
from clusterd.wire.hooks import Happening
from clusterd.wire.messages import Say, Taken

END_SECONDS = 5.0
"""For the handlers to get through with what has happened, when everything else is done."""


@dataclass(slots=True)
class Counts:
    """Since the start."""

    restarts: int = 0
    events_dropped: int = 0
    messages_dropped: int = 0
    cut: int = 0
    """What a process was told and did not live to get through with."""


class Hooks:
    """A `Program` (`program.py`). Where the configuration names no hooks, it only knows the workers."""

    def __init__(self, configurations: Configurations, log: Logger) -> None:
        self._configurations = configurations
        self._log = log
        self._decides = hooks.HooksSupervisor()
        self._feed = Feed()
        self._counts = Counts()
        self._events: deque[hooks.Event] = deque()
        self._acting = False
        self._wake: Any = None
        self._links: dict[int, HooksLink] = {}
        self._told: int | None = None
        """The process that is told."""
        self._let_go: set[int] = set()
        """Those that may leave when what they were told last is settled."""
        self._pinned: dict[int, Config] = {}
        self._templates: dict[int, int] = {}
        """The last template of each generation."""
        self._held_up: dict[int, int] = {}
        """Templates that are loaded before their generation's hooks."""
        self._is_full = False
        self._then: Callable[[], None] | None = None

    # ---- what the master tells (program.py)

    def begin(self, parts: Parts) -> None:
        """There is a master."""
        self._parts = parts
        self._orders = Orders(parts)
        addresses = [address_text(sock) for sock in parts.listeners.public]
        self._teller = Teller(parts.children, addresses, self._happened)

    def note_event(self, event: events.Event) -> None:
        """Something is about to be decided."""
        self._teller.note_event(event)
        if self._then is not None and isinstance(event, events.StopAsked):
            self._step(hooks.Stop(0.0))

    def note_action(self, action: actions.Action) -> None:
        """Something was decided, and done."""
        match action:
            case actions.StartTemplate(serial, generation):
                self._templates[generation] = serial
                config = self._configurations.of(generation)
                boot, leave = config.rollout.boot_timeout, config.timeouts.drain
                self._step(hooks.GenerationBegins(generation, config.hooks is not None, boot, leave))
            case actions.RolloutEnded(_, generation):
                self._step(hooks.GenerationServes(generation))
        self._teller.note_action(action)
        self._orders.note_action(action)

    def heard(self, child: Child, incoming: Incoming) -> None:
        """A worker's application has said something."""
        if not self._decides.has_hooks:
            self._refuse(incoming, "nobody answers requests in the master: hooks: names who does")
            return
        happening = self._teller.message(child.serial, incoming.value)
        if self._feed.add_message(happening, incoming, size_of(incoming.value)):
            self._tell_next()
            return
        self._counts.messages_dropped += 1
        self._log.error("too many messages wait for the hooks: one was dropped", **child.fields())
        self._refuse(incoming, "too many messages wait for the hooks already")

    def _happened(self, happening: Happening) -> None:
        self._orders.note_happening(happening)
        if not self._decides.has_hooks:
            self._feed.pass_over(happening)
        elif self._feed.add_event(happening):
            self._is_full = False
            self._tell_next()
        else:
            self._counts.events_dropped += 1
            if not self._is_full:
                self._log.error(
                    "too many events wait for the hooks: until there is room, handlers are told of no other"
                )
            self._is_full = True

    # ---- the load of a generation, which is that of its template and its hooks

    def template_loaded(self, child: Child) -> None:
        """The supervisor is told so when the hooks of its generation are good too."""
        if self._decides.is_held_up(child.generation):
            self._held_up[child.generation] = child.serial
        else:
            self._parts.happened(events.TemplateLoaded(child.serial))

    # ---- what its processes say

    def loaded(self, child: Child) -> None:
        """One has imported its module."""
        self._step(hooks.Loaded(child.serial))

    def load_failed(self, child: Child, reason: str) -> None:
        """One could not."""
        self._step(hooks.Failed(child.serial, reason))

    def said(self, child: Child, message: Say | Taken) -> None:
        """One has dealt with what it was told, or orders something."""
        if link := self._links.get(child.serial):
            link.received(message)

    def gone(self, death: Death, how: str) -> None:
        """One is reaped, or never came to be."""
        serial = death.child.serial
        self._let_go.discard(serial)
        if link := self._links.pop(serial, None):
            link.end(f"the hooks process died before it had answered ({how})")
        if self._told == serial:
            self._told = None
            self._cut()
        self._step(hooks.Gone(serial, how))

    def _cut(self) -> None:
        """What it was told last is told to nobody else: whoever dies of it is not followed by another who does."""
        entry = self._feed.settle()
        if entry is None or entry.happening is None or entry.happening.is_silent:
            return
        self._counts.cut += 1
        happening = entry.happening
        text = f"the hooks process ended in the handler of {happening.event!r}, which is told to no other"
        self._log.error(text, slot=happening.slot, generation=happening.generation)
        _taken(entry)

    # ---- what is told

    def _tell_next(self) -> None:
        if self._told is None or self._told in self._let_go:
            return
        link, entry = self._links[self._told], self._feed.take()
        if entry is not None:
            link.tell(entry)

    def _settled(self, serial: int) -> None:
        if serial != self._told:
            return
        entry = self._feed.settle()
        if entry is not None:
            _taken(entry)
        if serial in self._let_go:
            self._let_leave(serial)
        else:
            self._tell_next()
            self._say_if_empty()

    def _say_if_empty(self) -> None:
        if self._feed.is_idle:
            self._step(hooks.Emptied())

    def _let_leave(self, serial: int) -> None:
        """It leaves at the end of its channel."""
        child = self._parts.children.get(serial)
        if child is not None and child.channel is not None:
            child.channel.close()
            child.channel = None

    # ---- the end

    def finish(self, *, at_once: bool, then: Callable[[], None]) -> None:
        """Nothing more will happen. `then` is called when the hooks have been told, or after END_SECONDS."""
        self._then = then
        self._step(hooks.Stop(0.0 if at_once else END_SECONDS))
        self._say_if_empty()

    # ---- decisions, carried out

    def _step(self, event: hooks.Event) -> None:
        self._events.append(event)
        if self._acting:
            return
        self._acting = True
        try:
            while self._events:
                for action in self._decides.step(self._events.popleft(), time.monotonic()):
                    self._act(action)
        finally:
            self._acting = False
        if self._wake is not None:
            self._wake.cancel()
        at = self._decides.wake_at
        self._wake = None if at is None else self._parts.loop.call_at(at, self._step, hooks.Tick())
        if not self._decides.has_hooks:
            self._give_up_rest()

    def _act(self, action: hooks.Action) -> None:
        match action:
            case hooks.Start(serial, generation):
                self._start(serial, generation)
            case hooks.Tell(serial):
                self._told = serial
                self._feed.begin()
                self._log.info("hooks are told what happens", **self._fields(serial))
                self._tell_next()
            case hooks.Leave(serial):
                self._let_go.add(serial)
                if self._feed.out is None:
                    self._let_leave(serial)
            case hooks.Kill(serial, reason):
                self._log.info(f"killing the hooks process: {reason}", **self._fields(serial))
                if child := self._parts.children.get(serial):
                    self._parts.children.kill(child)
            case hooks.Good(generation):
                if (template := self._held_up.pop(generation, None)) is not None:
                    self._parts.happened(events.TemplateLoaded(template))
            case hooks.Bad(generation, reason):
                self._held_up.pop(generation, None)
                name = self._configurations.of(generation).hooks
                reason = reason if reason.startswith("hooks: ") else f"hooks: {name}: {reason}"
                self._parts.happened(events.TemplateFailed(self._templates[generation], reason))
            case hooks.Died(_, generation, how, retry_in):
                self._counts.restarts += 1
                retry = f"; trying again in {retry_in:.1f} s" if retry_in else ""
                self._log.error(f"the hooks process died: {how}{retry}", generation=generation)
            case hooks.Finished():
                self._finished()

    def _start(self, serial: int, generation: int) -> None:
        if generation not in self._pinned:
            self._pinned[generation] = _pinned(self._configurations.of(generation))
        self._pinned = {each: config for each, config in self._pinned.items() if each >= self._decides.serving}
        try:
            child = self._parts.processes.start_hooks(serial, generation, self._pinned[generation])
        except OSError as error:
            self._step(hooks.Gone(serial, f"clusterd can not start it: {error.strerror or error}"))
            return
        self._links[serial] = HooksLink(child, self._parts, self._orders, partial(self._settled, serial))

    def _finished(self) -> None:
        self._give_up_rest()
        if self._then is not None:
            then, self._then = self._then, None
            then()

    def _give_up_rest(self) -> None:
        untold = self._feed.clear()
        if untold:
            self._log.warning("there are no hooks any more, and they were not told everything", untold=len(untold))
        for entry in untold:
            if entry.incoming is not None:
                self._refuse(entry.incoming, "there are no hooks any more")

    def _refuse(self, incoming: Incoming, why: str) -> None:
        if incoming.wants_reply:
            try:
                incoming.refuse(why)
            except Disconnected:
                pass  # nobody awaits it any more
        incoming.taken()

    def _fields(self, serial: int) -> dict[str, object]:
        child = self._parts.children.get(serial)
        return child.fields() if child is not None else {}

    # ---- seen from outside

    def facts(self) -> HooksFacts | None:
        """How they are; None where there are none, nor are to be."""
        if not self._decides.has_hooks:
            return None
        serving = self._configurations.of(self._decides.serving)
        shown = self._told or next(iter(self._decides.processes), None)
        child = None if shown is None else self._parts.children.get(shown)
        process = None if shown is None else self._decides.processes.get(shown)
        return HooksFacts(
            module=serving.hooks or "",
            pid=None if child is None else child.pid,
            generation=self._decides.serving if process is None else process.generation,
            state="down" if process is None else process.state.value,
            is_told=process is not None and process.state is hooks.HookState.TOLD,
            waiting=self._feed.waiting,
            restarts=self._counts.restarts,
            events_dropped=self._counts.events_dropped,
            messages_dropped=self._counts.messages_dropped,
            cut=self._counts.cut,
        )


def _taken(entry: Entry) -> None:
    if entry.incoming is not None:
        entry.incoming.taken()


def _pinned(config: Config) -> Config:
    """What symbolic links lead to now: what is restarted later is what was loaded, whatever they point to by then."""
    directory, name = os.path.split(config.python)
    return replace(
        config,
        directory=os.path.realpath(config.directory),
        python=os.path.join(os.path.realpath(directory), name),
    )
