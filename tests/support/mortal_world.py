"""The simulated world of the supervisor, in which its master is killed at any point between two actions."""

import copy
import json
from dataclasses import dataclass, field

from clusterd.supervisor import actions, events
from clusterd.supervisor.model.states import TemplateState, WorkerState
from clusterd.supervisor.snapshot import pending_in, restore, snapshot
from clusterd.supervisor.succession import Found, begin
from tests.support.supervisor_world import World

DEATHS = 0.12
UNSENT = 0.2
_GONE = events.WorkerGone | events.TemplateGone
_REPORTED = ("started", "ended", "restarts_ended", "failed_generations", "restart_watch", "import_failed_at", "ordered")
"""What the world knows by reports alone. In a master that is part of the state."""


@dataclass
class MortalWorld(World):
    """Kills the master before it has written the state, or after any number of the actions that follow."""

    killed: int = 0
    written: str = ""
    reported: dict[str, object] = field(default_factory=dict)

    def step(self, event: events.Event) -> None:
        if self.written and self.random.random() < DEATHS / 2:
            self.lose(event)
        else:
            super().step(event)

    def lose(self, event: events.Event) -> None:
        """The master dies with an event that it has read, and has written nothing of it."""
        self.history.append(f"{self.now:8.2f} killed with {event}")
        self.go_back()
        forgotten = self.succeed()
        is_told_again = not isinstance(event, _GONE | events.WorkerHello)
        if is_told_again and getattr(event, "serial", None) not in forgotten and not self.is_stale(event):
            super().step(event)  # By the process, or by the client.

    def carry_out(self, decided: list[actions.Action]) -> None:
        self.write(decided)
        dies = self.random.random() < DEATHS
        done = self.random.randint(0, len(decided)) if dies else len(decided)
        super().carry_out(decided[:done])
        if dies:
            self.history.append(f"             killed, {done} of {len(decided)} actions were carried out")
            self.go_back()
            self.succeed()
        else:
            self.write([])

    def go_back(self) -> None:
        for name, value in copy.deepcopy(self.reported).items():
            setattr(self, name, value)

    def write(self, pending: list[actions.Action]) -> None:
        self.written = json.dumps(snapshot(self.supervisor.cluster, pending))
        self.reported = copy.deepcopy({name: getattr(self, name) for name in _REPORTED})

    def succeed(self) -> set[int]:
        """The next master goes on with what was written. Returns the processes that had no order yet: they end."""
        self.killed += 1
        document = json.loads(self.written)
        self.supervisor = restore(document)
        cluster = self.supervisor.cluster
        known = {
            each.serial
            for each in cluster.table.workers.values()
            if each.state is not WorkerState.FORKING
            and (each.state is not WorkerState.BOOTING or self.random.random() < 0.5)
        }
        coming = (TemplateState.LOADING, TemplateState.SPARE_COMING)
        for template in cluster.table.templates.values():
            if template.state not in coming or self.random.random() < 0.5:
                known.add(template.serial)
        forgotten = (self.workers | self.templates) - known
        for serial in forgotten:
            self.forget(serial)
        self.forget_what_only_the_master_knew(known)
        alive = (self.workers | self.templates) & known
        found = Found(frozenset(known), frozenset(alive), self.unsent())
        beginning = begin(cluster, pending_in(document), found, self.now)
        for action in beginning.actions:
            self.history.append(f"             again: {action}")
            if isinstance(action, actions.WorkerEnded | actions.RolloutEnded | actions.RestartEnded | actions.Serve):
                self.check(action)
            self.act(action)
            self.restart_watch.note(action, self.now)
        self.write([])
        gone = [each for each in beginning.events if isinstance(each, _GONE)]
        workers = {each.serial for each in gone if isinstance(each, events.WorkerGone)}
        self.require(not workers & forgotten, "what was to be forked is forked")
        self.workers |= workers
        self.templates |= {each.serial for each in gone if isinstance(each, events.TemplateGone)}
        for event in beginning.events:
            self.leave(event)
            super().step(event)
        super().step(events.Tick())
        return forgotten

    def unsent(self) -> frozenset[int]:
        """Some of the workers that were told to leave have not read it, and leave only if they are told again."""
        leaving = self.supervisor.cluster.table.in_state(WorkerState.RETIRED, WorkerState.DRAINING)
        lost = frozenset(each.serial for each in leaving if self.random.random() < UNSENT)
        self.queue = [each for each in self.queue if not (isinstance(each[2], _GONE) and each[2].serial in lost)]
        return lost

    def forget_what_only_the_master_knew(self, known: set[int]) -> None:
        """What it has read of the configuration, whom it could not tell to leave, and which spare has said Hello."""
        self.queue = [
            each
            for each in self.queue
            if not isinstance(each[2], events.ConfigurationRead | events.ConfigurationRefused | events.RetireFailed)
            and not (isinstance(each[2], events.SpareReady) and each[2].serial in known)
        ]

    def forget(self, serial: int) -> None:
        """A process that has not got its first order ends with its channel, and nothing that it would do happens."""
        self.workers.discard(serial)
        self.templates.discard(serial)
        self.doomed.discard(serial)
        self.serving.discard(serial)
        self.queue = [each for each in self.queue if getattr(each[2], "serial", None) != serial]
