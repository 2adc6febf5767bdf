"""The data a worker starts with: what the template shares with all its workers, and what the master gives this one."""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from clusterd.app.application import LoadedCode
from clusterd.config.model import Config
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.wakeups import Wakeups
from clusterd.log import Logger
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.metrics.shared.scoreboard import Scoreboard


@dataclass(frozen=True)
class ForkContext:
    """The data that all processes forked from a template share."""

    generation: int
    marked_master: int
    """The pid that the processes of this generation have in their environment (config/marks.py). The master may be
    another process by now."""
    outlives_master: bool
    """Whether a worker lives on when its master dies, as long as its channel does not end."""
    config: Config
    loaded: LoadedCode | None
    """None without preloading: the worker imports the application itself."""
    scoreboard: Scoreboard
    listeners: tuple[ListeningSocket, ...]
    tls: ssl.SSLContext | None
    wakeups: Wakeups
    instrumentation: Instrumentation | None
    """Of the application's metrics; None if they are off."""
    log: Logger


@dataclass(frozen=True)
class Boot:
    """The data of one worker."""

    context: ForkContext
    serial: int
    slot: int
    row: int
    """Index of its row in the scoreboard."""
    environment: Mapping[str, str]
    """Environment variables of its slot, in addition to those of all workers."""
    channel: socket.socket
    stacks: int
    """Descriptor of the file that the worker writes its stacks to."""

    @property
    def own_descriptors(self) -> tuple[int, ...]:
        """Those that the application may not close."""
        context = self.context
        shared = (
            context.scoreboard.descriptor,
            *context.wakeups.descriptors,
            *(each.fileno() for each in context.listeners),
        )
        return (self.channel.fileno(), self.stacks, *shared)
