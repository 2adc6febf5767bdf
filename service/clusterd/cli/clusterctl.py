"""`clusterctl`: ask a running clusterd over its control socket."""

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import Any

from clusterd import __version__
from clusterd.config.paths import control_path, service_path
from clusterd.log.record import escaped
from clusterd.wire.control import LINE_BYTES, Command, ControlError, parse, request

EX_FAILED = 1
EX_USAGE = 2
EX_UNAVAILABLE = 69
EX_INTERRUPTED = 130


class Unreachable(Exception):
    """No clusterd answers; the message says what to do."""


def main() -> int:
    """The entry point; returns the exit status."""
    parser = _parser()
    options = parser.parse_args()
    try:
        answer = ask(_control_path(options), Command(options.command))
    except (Unreachable, ControlError) as error:
        print(f"clusterctl: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    except KeyboardInterrupt:
        print("clusterctl: interrupted; what was asked for goes on", file=sys.stderr)
        return EX_INTERRUPTED
    if options.command == Command.STATUS and answer["succeeded"]:
        print(_status_table(answer["data"]))
    else:
        print(escaped(answer["text"]), file=sys.stdout if answer["succeeded"] else sys.stderr)
    for note in answer["data"].get("notes", ()):
        print(escaped(note), file=sys.stderr)
    return 0 if answer["succeeded"] else EX_FAILED


def ask(path: Path, command: Command) -> dict[str, Any]:
    """Send `command` and wait for its result; progress goes to a terminal's stderr.

    Raises Unreachable and ControlError.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(path))
            connection.sendall(request(command))
            with connection.makefile("rb") as lines:
                while line := lines.readline(LINE_BYTES):
                    document = parse(line)
                    if document.get("type") == "result":
                        return document
                    if sys.stderr.isatty():
                        print(escaped(str(document.get("text"))), file=sys.stderr)
    except OSError as error:
        raise Unreachable(f"{path}: {_advice(error)}") from error
    raise Unreachable(f"{path}: clusterd closed the connection without an answer; its log says why")


def _advice(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such socket: clusterd is not running, or uses another one (--socket, --config)"
        case ConnectionRefusedError():
            return "nobody listens: clusterd is not running and has left its socket behind"
        case PermissionError():
            return "permission denied: run as root or as a member of the service's group"
        case _:
            return error.strerror or str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clusterctl", description="Control a running clusterd.")
    parser.add_argument("--version", action="version", version=f"clusterctl {__version__}")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", type=Path, metavar="PATH", help="the control socket")
    where.add_argument("--config", type=Path, metavar="FILE", help="the configuration that names it")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        Command.RELOAD,
        help="roll out the configuration and code on disk; exit 1 with the reason if withdrawn",
    )
    commands.add_parser(Command.STATUS, help="show what runs")
    return parser


def _control_path(options: argparse.Namespace) -> Path:
    """As said, as configured, or the first there is of the places where a clusterd would have made it."""
    if options.socket is not None:
        return Path(options.socket)
    configured = None
    if options.config is not None:
        # Only here: reading YAML would double the start-up of every `systemctl reload`.
        from clusterd.config.loader import written_control

        # Whatever else is in the file: what is wrong with it is for the running clusterd to say.
        configured = written_control(options.config)
    own = control_path(configured, os.environ, os.getuid())
    packaged = service_path(options.config)
    if configured is not None or packaged is None or own.exists():
        return own
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


def _status_table(data: dict[str, Any]) -> str:
    columns = ("slot", "generation", "pid", "state", "age", "requests", "connections")
    rows = [columns, *(tuple(str(worker[column]) for column in columns) for worker in data["workers"])]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([escaped(data["status"]), "", *lines])


if __name__ == "__main__":
    sys.exit(main())
