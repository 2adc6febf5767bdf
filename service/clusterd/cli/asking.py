"""One conversation with a running clusterd over its control socket."""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from clusterd.config.paths import control_path, service_path
from clusterd.wire.control import Command, parse, request_line

ANSWER_BYTES = 1 << 20
"""The longest line of an answer: a status of thousands of workers."""


class Unreachable(Exception):
    """No clusterd answers; the message says what to do."""


ANSWER_SECONDS = 20.0
"""For what is done at once; a debugger has 15 seconds to begin."""

_NONE: Mapping[str, object] = MappingProxyType({})
_TAKES_LONG = frozenset({Command.RELOAD, Command.RESTART, Command.STOP, Command.EVENTS})
"""Rollouts, drains, and what is followed: nobody can say how long."""


def ask(
    path: Path, command: Command, arguments: Mapping[str, object] = _NONE, seconds: float = ANSWER_SECONDS
) -> Iterator[dict[str, Any]]:
    """Send `command`; what is said to it, its result last. Raises Unreachable and ControlError.

    `seconds` are how long there may be no answer; of what takes long, to a question before it.
    """
    if command in _TAKES_LONG:
        result_of(path, Command.STATUS, seconds)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            try:
                connection.sendall(request_line(command, **arguments))
            except BrokenPipeError:
                pass  # it was refused before it was said to its end, and why is to be read
            connection.settimeout(None if command in _TAKES_LONG else seconds)
            with connection.makefile("rb") as lines:
                while line := lines.readline(ANSWER_BYTES):
                    document = parse(line)
                    yield document
                    if document.get("type") == "result":
                        return
    except OSError as error:
        raise Unreachable(f"{path}: {_advice(error, path)}") from error
    raise Unreachable(f"{path}: clusterd closed the connection without an answer; its log says why")


def result_of(path: Path, command: Command, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """The same, where only the result matters."""
    *_, document = ask(path, command, seconds=seconds)
    return document


def _advice(error: OSError, path: Path) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket: clusterd is not running, or uses another one (--socket, --config)"
        case ConnectionRefusedError() if not path.is_socket():
            return "this is no socket: name the control socket of a clusterd"
        case ConnectionRefusedError():
            return "nobody listens: clusterd is not running and has left its socket behind"
        case PermissionError():
            return "permission denied: run as root or as a member of the service's group"
        case TimeoutError() | BlockingIOError():
            return "clusterd does not answer: it is stopped, or busy; its log may say with what"
        case _:
            return error.strerror or str(error)


def socket_path(given: Path | None, config: Path | None) -> Path:
    """As said, as configured, or the first there is of the places where a clusterd would have made it.

    Raises Unreachable: for a configuration that cannot be read as well, as another service must not be meant by it.
    """
    if given is not None:
        return given
    own, packaged = control_path(None, os.environ, os.getuid()), service_path(config)
    if config is not None:
        # Only here: reading YAML would double the start-up of every `systemctl reload`.
        from clusterd.config.reading.loader import ConfigError, written_control

        try:
            # Whatever else is in the file: what is wrong with it is for the running clusterd to say.
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
        return True  # connecting says what to do about it
