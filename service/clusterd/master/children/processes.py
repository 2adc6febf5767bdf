"""Carry out the supervisor's decisions about processes: exec, fork and messages to the children."""

import os
import time
from collections.abc import Mapping
from functools import partial

from clusterd.config import marks
from clusterd.config.model import Config, LogTargets, to_json
from clusterd.linux.wakeups import Wakeups
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.spawn import Role, spawn
from clusterd.master.children.table import Children
from clusterd.master.configurations import Configurations
from clusterd.master.sockets.listeners import Listeners
from clusterd.master.sockets.round_robin import RoundRobin
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.process.own_log import level_of
from clusterd.process.refused import why_refused
from clusterd.supervisor.actions import Fork, ForkSpare, Retire, StartTemplate
from clusterd.systemd.environment import clean_environment, state_directory
from clusterd.wire import messages
from clusterd.wire.in_hand import EMPTY, Table
from clusterd.wire.packets import socketpair

SHARE_SECONDS = 0.5
"""How long a worker waits for connections to become idle, so that it can pass them to another worker."""

STATE_DIRECTORY = "CLUSTERD_STATE_DIRECTORY"
"""The environment variable with the directory that the application may write to (`StateDirectory=` of the unit).

It is set in templates, workers and the hooks process.
"""


class Processes:
    """Turns decisions into processes and messages to them."""

    def __init__(
        self,
        children: Children,
        scoreboard: Scoreboard,
        arena: Arena,
        listeners: Listeners,
        configurations: Configurations,
        round_robin: RoundRobin,
        wakeups: Wakeups,
    ) -> None:
        self._children = children
        self._scoreboard = scoreboard
        self._arena = arena
        self._listeners = listeners
        self._configurations = configurations
        self._round_robin = round_robin
        self.wakeups = wakeups
        self.first_master = os.getpid()
        """The pid of the master that has started the service: an earlier one, if that is dead (`marks.MASTER_PID`)."""
        self.environments: dict[int, dict[str, str]] = {}
        """Additional environment variables of the workers of a slot, by slot (`Cluster.fork`)."""

    @property
    def refused_connections(self) -> int:
        """Connections that the master has accepted and closed unanswered (`scheduling: round_robin`)."""
        return self._round_robin.refused

    def start_template(self, action: StartTemplate) -> None:
        """Exec a template and send it what to import. Raises OSError, ProtocolError."""
        config = self._configurations.of(action.generation)
        child = Child(action.serial, Kind.TEMPLATE, action.generation)
        if not self._exec(child, Role.TEMPLATE, config):
            return
        listeners = self._listeners.public
        order = messages.Load(
            generation=action.generation,
            config=to_json(config),
            preload=action.preload,
            refuse_unforkable=action.refuse_unforkable,
            listeners=[listener.scheme for listener in listeners],
            log_level=int(level_of(config.log)),
            outlives_master=self._children.outlive_master,
        )
        shared = (*self.wakeups.descriptors, *(listener.fileno() for listener in listeners))
        descriptors = [self._scoreboard.descriptor, self._arena.descriptor, child.stacks, *shared]
        self._children.when_kept(child, partial(self._children.send, child, order, *descriptors))

    def start_hooks(self, serial: int, generation: int, config: Config) -> Child:
        """Exec a hooks process and send it what to import. Raises OSError, ProtocolError."""
        child = Child(serial, Kind.HOOKS, generation)
        if self._exec(child, Role.HOOKS, config):
            order = messages.Attach(generation, to_json(config), int(level_of(config.log)))
            self._children.send(child, order, child.stacks)
        return child

    def _exec(self, child: Child, role: Role, config: Config) -> bool:
        """Returns False if the interpreter cannot be run. Raises OSError."""
        with self._children.enter(child) as theirs:
            try:
                pid = spawn(
                    role,
                    config.python,
                    theirs,
                    template_environment(os.environ, config, self.first_master, child.generation),
                )
            except OSError as error:
                why = why_refused(error.errno or 0)
                self._children.never_born(child, f"python: cannot run {config.python}: {why}")
                return False
            self._children.born(child, pid)
            return True

    def fork_spare(self, action: ForkSpare) -> None:
        """Have a template fork an idle copy of itself. Raises OSError."""
        child = self._forked(Child(action.serial, Kind.SPARE, action.generation), action.template)
        with self._children.enter(child) as theirs:
            order = messages.ForkSpare(action.serial, child.is_reaped_by_template)
            self._order_fork(action.template, order, theirs.fileno())

    def fork(self, action: Fork) -> None:
        """Have a template fork a worker. Raises OSError, ScoreboardError."""
        row = self._scoreboard.lease()
        child = Child(action.serial, Kind.WORKER, action.generation, slot=action.slot, row=row)
        self._forked(child, action.template)
        try:
            theirs = self._children.enter(child)
        except OSError:
            self._scoreboard.release(row)
            raise
        series = self._configurations.of(action.generation).metrics.series
        self._arena.lease(row, action.slot, action.generation, series)
        with theirs:
            environment = self.environments.get(action.slot, {})
            by_template = child.is_reaped_by_template
            order = messages.Fork(action.serial, action.slot, action.generation, row, environment, by_template)
            self._order_fork(action.template, order, theirs.fileno(), child.stacks)

    def _forked(self, child: Child, template: int) -> Child:
        """Note whose child it will be. One of an adopted template is not inherited by this master."""
        parent = self._children.get(template)
        if parent is not None and not parent.is_own:
            child.is_own, child.is_reaped_by_template = False, True
        return child

    def _order_fork(self, template: int, order: messages.Message, *descriptors: int) -> None:
        """Send `order` to a template.

        If the template is dead, nothing is sent. The caller closes the descriptors, which ends the child's channel.
        """
        parent = self._children.get(template)
        if parent is not None:
            self._children.send(parent, order, *descriptors)

    def share(self, giver: int, taker: int, connections: int) -> None:
        """Have the worker `giver` pass up to `connections` connections to the worker `taker`. Raises OSError."""
        gives, takes = self._children.get(giver), self._children.get(taker)
        if gives is None or takes is None:
            return
        ours, theirs = socketpair()
        with ours, theirs:
            self._children.send(takes, messages.Adopt(), theirs.fileno())
            self._children.send(gives, messages.Share(connections, SHARE_SECONDS), ours.fileno())

    def serve(self, child: Child) -> None:
        """Tell a worker to take new connections, from the listening sockets or from the master's round-robin."""
        self._children.send(child, messages.Serve())
        self._round_robin.serves(child)

    def set_keep_alive(self, serial: int, *, is_on: bool) -> None:
        """Have a worker keep its connections after their responses, or close them."""
        if child := self._children.get(serial):
            self._children.send(child, messages.SetKeepAlive(is_on))

    def burden(self, serial: int) -> dict[str, object]:
        """The connections and requests that would be lost if the worker is killed, by its scoreboard row."""
        child = self._children.get(serial)
        if child is None or child.row is None:
            return {}
        row = self._scoreboard.row(child.row)
        return {"connections": row.connections, "in_flight": row.in_flight}

    def in_hand(self, child: Child) -> Table:
        """The requests that a worker has in hand, or had when it died."""
        if child.row is None:
            return EMPTY
        whole = self._configurations.of(child.generation).log.targets is LogTargets.FULL
        return self._scoreboard.in_hand(child.row, whole=whole)

    def ended(self, serial: int) -> None:
        """Tell the round-robin that a worker has ended."""
        self._round_robin.ended(serial)

    def close_listeners(self) -> None:
        """Close the listening sockets at a stop, so that no client waits in a backlog that no worker serves."""
        self._round_robin.stop()
        self._listeners.close_bound()

    def retire(self, action: Retire) -> None:
        """Tell a worker to stop accepting and to drain. Raises OSError.

        If it has a successor, both receive one end of a socketpair, over which the connections are handed over.
        """
        worker = self._children.get(action.serial)
        if worker is None:
            return
        self._round_robin.retires(action.serial)
        order = messages.Retire(time.monotonic() + action.seconds, action.idle_seconds, action.linger)
        successor = None if action.successor is None else self._children.get(action.successor)
        if successor is None:
            self._children.send(worker, order)
            return
        ours, theirs = socketpair()
        with ours, theirs:
            self._children.send(successor, messages.Adopt(), theirs.fileno())
            self._children.send(worker, order, ours.fileno())


def template_environment(
    inherited: Mapping[str, str], config: Config, first_master: int, generation: int
) -> dict[str, str]:
    """The environment of a generation: the master's without the variables of systemd, and that of the configuration.

    $STATE_DIRECTORY may hold several paths. CLUSTERD_STATE_DIRECTORY holds one, which an application can use directly.
    If the unit has no state directory, the variable keeps the value that the master was started with, such as one that
    a developer has set.
    """
    directory = state_directory(inherited)
    state = {} if directory is None else {STATE_DIRECTORY: directory}
    its = {marks.MASTER_PID: str(first_master), marks.GENERATION: str(generation)}
    # The master may itself be a process of a worker of another clusterd.
    own = {name: value for name, value in clean_environment(inherited).items() if name not in marks.OF_WORKERS}
    return {**own, **state, **config.environment, **its}
