"""Exec a template, or a hooks process, under the application's interpreter."""

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
    """What the process is to run: a module of ours."""

    TEMPLATE = "clusterd.template.process"
    HOOKS = "clusterd.hooks.process"


def spawn(role: Role, python: str, channel: socket.socket, environment: Mapping[str, str]) -> int:
    """Start `python` on `channel`; its pid. Raises OSError.

    posix_spawn and not fork: the master's memory is not copied, and no Python runs between. All
    descriptors but the named ones close by themselves (PEP 446). A process group of its own keeps
    a Ctrl-C at the terminal away from workers: that is for the master to act on.
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
        # What comes before it has its handlers waits, instead of killing it.
        setsigmask=[STACKS_SIGNAL, *EARLY, *BLOCKED],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, *EARLY],
    )
