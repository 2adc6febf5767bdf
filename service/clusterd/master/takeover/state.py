"""What one program of the master leaves to the next: plain values, and the numbers of open descriptors.

The document is a JSON text in a memfd. It names the layouts of everything that both programs share with the living
workers, because the next program may be another version, which must not guess.
"""

import json
import os
from dataclasses import dataclass, fields
from typing import Any

from clusterd.config.model import AccessLog, Config, TcpAddress, from_json, to_json
from clusterd.log import Level
from clusterd.master.admin import counts
from clusterd.master.children.table import Kind
from clusterd.master.hooks import manager as hooks
from clusterd.master.observing import observations
from clusterd.metrics.regions.arena import Kept as KeptOfArena
from clusterd.metrics.regions.region import REGION_LAYOUT
from clusterd.metrics.shared.row import Totals
from clusterd.metrics.shared.scoreboard import HEADER
from clusterd.supervisor.model.plain import PlainError, from_plain, to_plain
from clusterd.systemd.sockets import Role
from clusterd.version import __version__
from clusterd.wire.hooks import WorkerEvent
from clusterd.wire.messages import LAYOUT

FORMAT = 1
"""Changes when a field changes its meaning."""
MOST_BYTES = 256 * 1024 * 1024


class TakeoverError(Exception):
    """The next program cannot go on with what the last one has left. The text is one line for the operator."""


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

    def descriptors(self) -> list[int]:
        """Every descriptor that the next program needs."""
        of_children = (each for child in self.children for each in (child.channel, child.stacks) if each >= 0)
        shared = (self.shared.scoreboard, self.shared.arena, *self.shared.wakeups)
        return [*shared, *of_children, *(each.descriptor for each in self.listeners.sockets)]


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
        size = os.fstat(descriptor).st_size
        document = json.loads(os.pread(descriptor, min(size, MOST_BYTES), 0))
    except (OSError, ValueError, RecursionError) as error:
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
