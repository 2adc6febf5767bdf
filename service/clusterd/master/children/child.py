"""The record of one process of the master."""

import os
from dataclasses import field
from enum import Enum

from clusterd.config.model import AccessLog, TcpAddress
from clusterd.log import Level
from clusterd.records import dataclass
from clusterd.wire.channel import Channel


class Kind(Enum):
    """The kind of a child process."""

    TEMPLATE = "template"
    SPARE = "spare template"
    WORKER = "worker"
    HOOKS = "hooks process"


@dataclass(slots=True)
class Child:
    """One process, from the decision to create it until it is reaped. The serials of hooks processes are negative."""

    serial: int
    kind: Kind
    generation: int
    slot: int = 0
    """0 unless the child is a worker."""
    row: int | None = None
    """The scoreboard row that the worker uses."""
    pid: int | None = None
    copy: int | None = None
    """The pid of the process that speaks for a template that stands aside (template/process.py)."""
    stacks: int = -1
    stacks_read: int = 0
    log_level: Level | None = None
    """The level that the master last sent to it; None if it has sent none."""
    access_log: AccessLog | None = None
    """The mode of the access log that the master last sent to it; None if it has sent none."""
    stacks_asked_for: bool = False
    """It was asked for its stacks over the channel and has not answered yet."""
    is_heard: bool = False
    """The master has received a message from it."""
    signal_asked_for: str = ""
    """The signal that an operator or a program had sent to it, and the sender, in words."""
    debugger: TcpAddress | None = None
    """The address at which a debugger may attach to it."""
    started: int = 0
    """When its process began, in ticks since the machine has started: a later process may get its pid."""
    is_own: bool = True
    """It is a child of this process, which can wait for it (wait(2))."""
    is_reaped_by_template: bool = False
    """It is a child of an adopted template, which reports its status."""
    may_greet_again: bool = False
    """It is adopted, and says hello once more if it has not been welcomed."""
    is_kept: bool = False
    """It outlives this master: systemd keeps its channel, and it is in the state."""
    cpu_seconds: float = 0.0
    """What the metrics have shown last of its CPU time, which may not go back."""
    doomed: bool = False
    """The master has killed it. If it has no pid yet, it is killed at its Hello message."""
    channel: Channel | None = field(default=None, repr=False)
    channel_descriptor: int = -1

    def close_stacks(self) -> None:
        """Close the file that receives the stacks."""
        if self.stacks >= 0:
            os.close(self.stacks)
            self.stacks = -1

    def fields(self) -> dict[str, object]:
        """The log fields that identify this child."""
        slot = {"slot": self.slot} if self.slot else {}
        return {**slot, "generation": self.generation, "pid": self.pid}


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a child. `how` describes it in words."""

    child: Child
    how: str
    by_signal: bool
    cpu_seconds: float
    code: int | None = None
    """The exit status, or the negative number of the signal, as in `subprocess`. None if there never was a process."""
