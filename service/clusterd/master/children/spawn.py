"""Exec a template or a hooks process under the application's interpreter."""

import os
import signal
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from clusterd.linux.masters_signals import BLOCKED, EARLY
from clusterd.linux.stacks import STACKS_SIGNAL
from clusterd.linux.title import PADDING

BOOTSTRAP = Path(__file__).resolve().parents[2] / "template" / "bootstrap.py"
CHANNEL_DESCRIPTOR = 3


class Role(StrEnum):
    """The module of clusterd that the process runs."""

    TEMPLATE = "clusterd.template.process"
    HOOKS = "clusterd.hooks.process"


def spawn(role: Role, python: str, channel: socket.socket, environment: Mapping[str, str]) -> int:
    """Start `python` with `channel` as descriptor 3. Returns its pid. Raises OSError.

    posix_spawn(3) is used instead of fork(2): it does not copy the master's memory, and no Python code runs between
    fork and exec. All other descriptors close at the exec (PEP 446). The process has its own process group, so a Ctrl-C
    at the terminal reaches only the master, which acts on it.
    """
    return os.posix_spawn(
        python,
        [python, str(BOOTSTRAP), str(CHANNEL_DESCRIPTOR), role.value, PADDING],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, channel.fileno(), CHANNEL_DESCRIPTOR),
        ],
        setpgroup=0,
        # A signal that arrives before the process has installed its handlers waits, instead of killing it.
        setsigmask=[STACKS_SIGNAL, *EARLY, *BLOCKED],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, *EARLY],
    )
