"""What a worker is given at its fork: by the template what all of its workers share, by the master what is its own."""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from clusterd.app.application import LoadedCode
from clusterd.config.model import Config
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.wakeups import Wakeups
from clusterd.log import Logger
from clusterd.metrics.scoreboard import Scoreboard


@dataclass(frozen=True)
class ForkContext:
    """What every process forked from a template starts with."""

    generation: int
    config: Config
    loaded: LoadedCode | None
    """None where the application could not be preloaded: the worker imports it itself."""
    scoreboard: Scoreboard
    listeners: tuple[ListeningSocket, ...]
    tls: ssl.SSLContext | None
    wakeups: Wakeups
    log: Logger


@dataclass(frozen=True)
class Boot:
    """What one worker starts with."""

    context: ForkContext
    serial: int
    slot: int
    row: int
    """Of the scoreboard."""
    environment: Mapping[str, str]
    """Of its slot, beside what all workers have."""
    channel: socket.socket
    stacks: int
    """The descriptor of the file that takes its stacks."""
