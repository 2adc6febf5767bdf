"""The client of the control socket: sends one command to a running clusterd and reads the answer."""

import fcntl
import os
import select
import socket
import sys
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from clusterd.config.paths import control_path, service_path
from clusterd.wire.control import Command, parse, request_line

ANSWER_BYTES = 4 << 20
"""The longest line of an answer, which is that of `top` with a thousand slots and their predecessors."""


class Unreachable(Exception):
    """No clusterd answers. The message says what to do."""


class Unanswered(Unreachable):
    """The master has died before it answered. Another may follow."""


ANSWER_SECONDS = 20.0
"""The time limit for commands that are carried out at once. A debugger may take 15 seconds to start."""

_NO_ANSWER = (
    "clusterd has died before it answered, as its log says. Under systemd the next master finishes what had begun: "
    "clusterctl events shows what becomes of it"
)
"""What is true of a command whose connection ends. To wait for the next master here would be in vain: systemd starts
none while a command of `ExecReload=` runs (service_sigchld_event() of systemd)."""

_NONE: Mapping[str, object] = MappingProxyType({})
TAKES_LONG = frozenset({Command.RELOAD, Command.RESTART, Command.STOP, Command.EVENTS, Command.UPGRADE})
"""Rollouts, drains, upgrades and followed events, which have no time limit."""


def ask(
    path: Path, command: Command, arguments: Mapping[str, object] = _NONE, seconds: float = ANSWER_SECONDS
) -> Iterator[dict[str, Any]]:
    """Send `command` and yield the documents of the answer, the result last. Raises Unreachable and ControlError.

    `seconds` is how long clusterd may send nothing. A command without a time limit is preceded by a question that has
    this limit, and has to be read within it.
    """
    if command in TAKES_LONG:
        result_of(path, Command.STATUS, seconds)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            try:
                connection.sendall(request_line(command, **arguments))
            except BrokenPipeError:
                pass  # clusterd refused the request before it had read all of it; the answer says why
            if command in TAKES_LONG:
                _wait_until_read(connection, seconds)
            connection.settimeout(None if command in TAKES_LONG else seconds)
            with connection.makefile("rb") as lines:
                while line := lines.readline(ANSWER_BYTES):
                    document = parse(line)
                    yield document
                    if document.get("type") == "result":
                        return
    except ConnectionResetError as error:
        raise Unanswered(f"{path}: {_NO_ANSWER}") from error
    except OSError as error:
        raise Unreachable(f"{path}: {_advice(error, path)}") from error
    raise Unanswered(f"{path}: {_NO_ANSWER}")


def _wait_until_read(connection: socket.socket, seconds: float) -> None:
    """Return when clusterd has sent something, or after the time limit. Raises TimeoutError if it has read nothing.

    A master that dies before it accepts the connection leaves it in the queue of the socket, which systemd holds.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    if not waiting.poll(seconds * 1000) and _unread_bytes(connection):
        raise TimeoutError


def _unread_bytes(connection: socket.socket) -> int:
    """How much memory holds what the other side has not read: SIOCOUTQ (unix(7)), which is TIOCOUTQ."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def result_of(path: Path, command: Command, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Send `command` and return only the result. Raises as `ask` does."""
    *_, document = ask(path, command, seconds=seconds)
    return document


def _advice(error: OSError, path: Path) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket: clusterd is not running, or uses another one (--socket, --config)"
        case ConnectionRefusedError() if not path.is_socket():
            return "this is not a socket: name the control socket of clusterd"
        case ConnectionRefusedError():
            return "no process listens: clusterd is not running and has left its socket behind"
        case PermissionError():
            return "permission denied: run as root or as a member of the service's group"
        case TimeoutError() | BlockingIOError():
            return "clusterd does not answer: it is stopped, or busy; its log may say with what"
        case _:
            return error.strerror or str(error)


def socket_path(given: Path | None, config: Path | None) -> Path:
    """Return the control socket: as given, as configured, or the first default path that exists.

    Raises Unreachable, also if the configuration cannot be read: a default path could belong to another service.
    """
    if given is not None:
        return given
    own, packaged = control_path(None, os.environ, os.getuid()), service_path(config)
    if config is not None:
        # Imported here, because reading YAML would double the start-up time of every `systemctl reload`.
        from clusterd.config.reading.loader import ConfigError, written_control

        try:
            # Errors in other settings are ignored here. The running clusterd reports them.
            configured = written_control(config)
        except ConfigError as error:
            if packaged is None or not _is_there(packaged):
                problem = error.problems[0]
                raise Unreachable(f"{problem.place}: {problem.found}") from error
            return packaged
        if configured is not None:
            return Path(configured)
        if packaged is None or _is_there(packaged):
            return packaged or own
    if own.exists():
        return own
    assert packaged is not None
    if not _is_there(packaged):
        raise Unreachable(
            f"no control socket at {packaged} or {own}: clusterd is not running, or uses another one (--socket)"
        )
    return packaged


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # the attempt to connect reports what to do
