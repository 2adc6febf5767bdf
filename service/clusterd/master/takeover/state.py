"""What one program of the master leaves to the next: plain values, and the numbers of open descriptors.

The document is a JSON text in a memfd. It names the layouts of everything that both programs share with the living
workers, because the next program may be another version, which must not guess.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import field, fields, replace
from enum import Enum, auto
from typing import Any

from clusterd.config.model import AccessLog, Config, TcpAddress, from_json, to_json
from clusterd.log import Level
from clusterd.master.admin import counts
from clusterd.master.children.child import Child, Kind
from clusterd.master.hooks import manager as hooks
from clusterd.master.observing import observations
from clusterd.master.takeover.state_file import MOST_BYTES, StateFile, TakeoverError
from clusterd.metrics.regions.arena import Kept as KeptOfArena
from clusterd.metrics.regions.region import REGION_LAYOUT
from clusterd.metrics.shared.row import Totals
from clusterd.metrics.shared.scoreboard import HEADER
from clusterd.records import dataclass
from clusterd.supervisor.model.plain import PlainError, from_plain, to_plain
from clusterd.systemd.sockets import Role
from clusterd.version import __version__
from clusterd.wire.hooks import WorkerEvent
from clusterd.wire.messages import LAYOUT

FORMAT = 1
"""Changes when a field changes its meaning."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """The versions of what the living processes read and write."""

    scoreboard: tuple[int, ...]
    arena: int
    protocol: int


OWN_LAYOUTS = Layouts(HEADER, REGION_LAYOUT, LAYOUT)


@dataclass(frozen=True, slots=True)
class ListenerState:
    """A listening socket."""

    descriptor: int
    role: Role
    is_bound: bool
    """Whether the master has bound it, and not systemd."""


@dataclass(frozen=True, slots=True)
class ListenersState:
    """The listening sockets, as in `Listeners`."""

    sockets: tuple[ListenerState, ...]
    bound_paths: tuple[str, ...]
    passed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ChildState:
    """A living child, as in `Child`. Its channel and the file of its stacks are descriptors."""

    serial: int
    kind: Kind
    generation: int
    slot: int
    row: int | None
    pid: int
    copy: int | None
    channel: int
    stacks: int
    stacks_read: int
    log_level: Level | None
    access_log: AccessLog | None
    is_heard: bool
    signal_asked_for: str
    debugger: TcpAddress | None
    started: int
    is_reaped_by_template: bool
    is_kept: bool
    cpu_seconds: float
    has_unsent: bool = False
    """Whether messages to it wait in the master."""

    @classmethod
    def of(cls, child: Child, channel: int, *, has_unsent: bool) -> "ChildState":
        """The state of a child that has a pid."""
        copied: dict[str, Any] = {name: getattr(child, name) for name in COPIED_OF_CHILD}
        return cls(channel=channel, has_unsent=has_unsent, **copied)

    def child(self) -> Child:
        """The child, which is not adopted yet."""
        copied: dict[str, Any] = {name: getattr(self, name) for name in COPIED_OF_CHILD if name != "pid"}
        return Child(**copied)


COPIED_OF_CHILD = tuple(each.name for each in fields(ChildState) if each.name not in ("channel", "has_unsent"))
"""What is in a Child as well, under the same name."""


@dataclass(frozen=True, slots=True)
class ConfigState:
    """A configuration, as `config.model.to_json` writes it, and its environment."""

    document: dict[str, Any]
    environment: dict[str, str]

    @classmethod
    def of(cls, config: Config) -> "ConfigState":
        """Write a configuration down."""
        return cls(to_json(config), dict(config.environment))

    def config(self) -> Config:
        """Return the configuration. Raises TypeError, KeyError or ValueError if another version has written it."""
        return from_json(self.document, self.environment)


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters of the master, which must not go back."""

    totals: dict[int, Totals]
    """What the workers that have ended have counted, by slot."""
    cpu_seconds: dict[int, float]
    """The CPU time of these, by slot."""
    counts: counts.Kept
    orphans_reaped: int
    messages_dropped: int
    refused_connections: int
    log_records_lost: int
    hooks: hooks.Kept


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the master tells of the past."""

    last_event: int
    events: tuple[dict[str, Any], ...]
    messages: tuple[dict[str, Any], ...]
    workers: dict[int, WorkerEvent]
    """The last event of each living worker, by serial."""
    observations: observations.Kept
    workers_gone: dict[int, float] = field(default_factory=dict)
    """Dead workers of which processes may be left, as in `Remains`."""


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """The descriptors of what all processes share."""

    scoreboard: int
    arena: int
    kept_of_arena: KeptOfArena
    wakeups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MasterState:
    """All of it."""

    format: int
    program: str
    """The version of clusterd that has written it."""
    layouts: Layouts
    cluster: dict[str, Any]
    """Of the supervisor (supervisor/snapshot.py)."""
    shared: SharedMemory
    listeners: ListenersState
    children: tuple[ChildState, ...]
    started_with: ConfigState
    configurations: dict[int, ConfigState]
    environments: dict[int, dict[str, str]]
    """What `Cluster.fork` has given to the workers of a slot."""
    log_level: Level
    access_log: AccessLog | None
    counted: Counted
    remembered: Remembered
    first_master: int
    """The pid of the master that has started the service, as in the variables of all its processes."""
    stored: dict[int, str]
    """The descriptors that systemd keeps, and their names in its store."""
    candidate: ConfigState | None = None
    """The configuration that was read last."""

    def descriptors(self) -> list[int]:
        """Every descriptor that the next program needs."""
        of_children = (each for child in self.children for each in (child.channel, child.stacks) if each >= 0)
        shared = (self.shared.scoreboard, self.shared.arena, *self.shared.wakeups)
        listeners = (each.descriptor for each in self.listeners.sockets)
        # The state in systemd's store is none of these.
        return list(dict.fromkeys([*shared, *of_children, *listeners, *self.stored]))

    def passed_on(self, received: Mapping[str, int]) -> "MasterState":
        """The same with the numbers that its descriptors have in the next process, by their names in the store.

        A process whose channel is not there is on its own. One that had no order yet is left out, with its row: it ends
        when it sees the end of its channel. Raises TakeoverError if there is not all that is shared.
        """
        kept = tuple(each for each in self.children if each.is_kept)
        arena, rows = self.shared.kept_of_arena, {each.row for each in kept}
        numbers = {before: received[name] for before, name in self.stored.items() if name in received}
        try:
            shared = replace(
                self.shared,
                scoreboard=numbers[self.shared.scoreboard],
                arena=numbers[self.shared.arena],
                kept_of_arena=replace(arena, leases=tuple(each for each in arena.leases if each.row in rows)),
                wakeups=tuple(numbers[each] for each in self.shared.wakeups),
            )
        except KeyError:
            raise TakeoverError("systemd has not kept all that the last master has left") from None
        left = (each for each in self.listeners.sockets if each.descriptor in numbers)  # A stop closes them.
        sockets = tuple(replace(each, descriptor=numbers[each.descriptor]) for each in left)
        children = tuple(
            replace(each, channel=numbers.get(each.channel, -1), stacks=numbers.get(each.stacks, -1)) for each in kept
        )
        return replace(
            self,
            shared=shared,
            listeners=replace(self.listeners, sockets=sockets),
            children=children,
            stored={number: name for name, number in received.items()},
        )


class Cause(Enum):
    """Why another program goes on."""

    UPGRADE = auto()
    """The last program has executed this one, in the same process, when everything was at rest."""
    DEATH = auto()
    """The last master is dead, whatever it was about to do."""


@dataclass(frozen=True, slots=True)
class Succession:
    """What the last program has left, and why. A dead master has left the file, too."""

    cause: Cause
    state: MasterState
    file: StateFile | None = None


def write(state: MasterState) -> int:
    """Return a memfd that holds `state`. It is closed on exec. Raises OSError."""
    descriptor = os.memfd_create("clusterd-state", os.MFD_CLOEXEC)
    try:
        rest = memoryview(json.dumps(to_plain(state)).encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read(descriptor: int) -> MasterState:
    """Return the state in a memfd. Raises TakeoverError if it is none that this version can go on with."""
    try:
        text = os.pread(descriptor, min(os.fstat(descriptor).st_size, MOST_BYTES), 0)
    except OSError as error:
        raise TakeoverError(f"the state of the running master cannot be read: {error}") from None
    return from_text(text)


def from_text(text: bytes) -> MasterState:
    """Return the state in a JSON text. Raises TakeoverError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TakeoverError(f"the state of the running master cannot be read: {error}") from None
    return from_document(document)


def from_document(document: Any) -> MasterState:
    """Return the state in a document. Raises TakeoverError."""
    form, program = (document.get(name) if isinstance(document, dict) else None for name in ("format", "program"))
    who = f"the running master is clusterd {program}" if isinstance(program, str) else "the running master"
    if form != FORMAT or type(form) is not int:
        raise TakeoverError(f"{who}; its state has the format {form!r:.20}, and clusterd {__version__} reads {FORMAT}")
    _check_layouts(who, document.get("layouts"))
    try:
        return from_plain(MasterState, document)
    except PlainError as error:
        raise TakeoverError(f"{who}; its state cannot be read: {error}") from None


def _check_layouts(who: str, document: Any) -> None:
    try:
        theirs = from_plain(Layouts, document)
    except PlainError as error:
        raise TakeoverError(f"{who}; its state cannot be read: {error}") from None
    for each in fields(Layouts):
        if getattr(theirs, each.name) != getattr(OWN_LAYOUTS, each.name):
            what = f"its workers use another layout of the {each.name} than clusterd {__version__}"
            raise TakeoverError(f"{who}; {what}: systemctl restart clusterd")
