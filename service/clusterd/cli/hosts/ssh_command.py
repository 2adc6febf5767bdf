"""The command lines of ssh, and what is run on the other host. Pure."""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from clusterd.records import dataclass
from clusterd.wire.control import Command

CONNECT_SECONDS = 10
"""How long a host may take to accept the connection."""
_ALIVE_SECONDS, _ALIVE_COUNT = 15, 3
"""A host that answers none of this many messages in a row, sent at this interval, is lost: ssh ends with 255. Without
them a `reload` would wait for ever for a host that has died."""

_OPTIONS = {
    "BatchMode": "yes",  # Many hosts cannot ask for passwords on one terminal.
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ServerAliveInterval": str(_ALIVE_SECONDS),
    "ServerAliveCountMax": str(_ALIVE_COUNT),
    "ClearAllForwardings": "yes",  # A forwarded port of the user's configuration may be in use already.
    "LogLevel": "ERROR",  # The banner of a host is no error.
}

_POSITIONAL = ("slot", "slot_or_all", "slot_or_hooks", "workers", "level", "log_setting", "mode")
_FLAGS: tuple[tuple[str, object, str], ...] = (
    ("now", True, "--now"),
    ("follow", True, "--follow"),
    ("diff", True, "--diff"),
)
_WAITING: Mapping[str, tuple[bool, str]] = MappingProxyType(
    {Command.RELOAD: (False, "--no-wait"), Command.DRAIN: (True, "--wait")}
)
"""The flag that changes whether a command waits, and what it changes it to."""
_MESSAGE_ON_STDIN = "-"


@dataclass(frozen=True, slots=True)
class RemoteCommand:
    """What runs clusterctl on one host."""

    words: tuple[str, ...]
    """The program ssh with its arguments."""
    stdin: bytes = b""


def remote_command(
    ssh: Sequence[str], host: str, clusterctl: Sequence[str], arguments: Sequence[str]
) -> tuple[str, ...]:
    """Return the words that start ssh, which hands its last one to a shell of the host: it is quoted for that.

    `ssh` may have options of its own. ssh uses the first value that it gets for one, so they have precedence.
    """
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    return (*ssh, "-T", *options, "--", host, shlex.join([*clusterctl, *arguments]))


def arguments_of(options: argparse.Namespace) -> list[str]:
    """Return the arguments for the clusterctl of a host: the command as it was parsed here, answered in JSON."""
    given: Mapping[str, object] = vars(options)
    words = ["--json"]
    for name in ("socket", "config"):
        if given.get(name) is not None:
            words.append(f"--{name}={given[name]}")
    words.append(str(options.command))
    words += [flag for name, value, flag in _FLAGS if given.get(name) is value]
    waits, flag = _WAITING.get(options.command, (None, ""))
    words += [flag] if waits is not None and given["wait"] is waits else []
    if given.get("signal") is not None:
        words.append(f"--signal={given['signal']}")
    words += [str(given[name]) for name in _POSITIONAL if given.get(name) is not None]
    return [*words, _MESSAGE_ON_STDIN] if "message" in given else words


def stdin_of(options: argparse.Namespace) -> bytes:
    """Return what the clusterctl of a host reads: a message, which may be too long for a command line."""
    return json.dumps(options.message).encode() if "message" in vars(options) else b""
