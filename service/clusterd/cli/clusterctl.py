"""The command `clusterctl`: shows and controls a running clusterd over its control socket."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from clusterd.cli import services, tables, terminal
from clusterd.cli.asking import Unreachable, ask, result_of, socket_path
from clusterd.cli.examining.formats import CannotWrite, Format
from clusterd.config.model import AccessLog
from clusterd.dashboard import words
from clusterd.log import Level
from clusterd.log.record import escaped
from clusterd.version import __version__
from clusterd.wire.control import SECONDS, Command, ControlError, parse_seconds, parse_signal, parse_workers

ALL = "all"
EX_FAILED = 1
EX_USAGE = 2
EX_UNAVAILABLE = 69
EX_INTERRUPTED = 130

_COMMANDS = {"workers": "status", "log": "log-access"}
"""Commands that have another name in the protocol."""

TOP_SECONDS = 2.0
"""The time limit for an answer in `top`, which reads keys only between two answers."""

_EXIT_STATUS = (
    "exit status: 0 done; 1 clusterd refused, or it failed, with the reason on stderr; 2 usage; "
    "69 no clusterd answers; 130 interrupted"
)


def main() -> int:
    """Run the command and return the exit status."""
    options = command_line().parse_args()
    spinner = terminal.Spinner(sys.stderr)
    try:
        return _run(options, spinner)
    except (Unreachable, ControlError) as error:
        spinner.clear()
        print(f"clusterctl: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    except CannotWrite as error:
        print(f"clusterctl: {error}", file=sys.stderr)
        return EX_FAILED
    except KeyboardInterrupt:
        spinner.clear()
        if options.command in (Command.PROFILE, Command.MEMORY):
            print("clusterctl: interrupted; clusterd calls it off", file=sys.stderr)
        elif options.command != "events":
            print("clusterctl: interrupted; clusterd goes on with the command", file=sys.stderr)
        return EX_INTERRUPTED
    except BrokenPipeError:  # for example in `clusterctl events | head`
        sys.stderr.close()
        return 0


def _run(options: argparse.Namespace, spinner: terminal.Spinner) -> int:
    if options.command == "list":
        return _list(as_json=options.json)
    path = socket_path(options.socket, options.config)
    if options.command == "top" and not options.json:
        return _top(path)
    if options.command in (Command.PROFILE, Command.MEMORY) or getattr(options, "slot_or_hooks", None) == ALL:
        return _examine(path, options)
    command = Command(_COMMANDS.get(options.command, options.command))
    result: dict[str, Any] = {}
    for document in ask(path, command, _arguments(options)):
        match document["type"]:
            case "progress":
                spinner.show(str(document.get("text")))
            case "event":
                _print_event(document["event"], as_json=options.json)
            case _:
                result = document
    spinner.clear()
    return _print_result(options, result)


def _examine(path: Path, options: argparse.Namespace) -> int:
    """Look into workers. What that needs is imported here, because a `systemctl reload` must not wait for it."""
    from clusterd.cli.examining import memory, profile, stacks

    if options.command == Command.MEMORY:
        return memory.memory(path, options.slot, options.seconds, as_json=options.json)
    if options.command == Command.PROFILE:
        target = profile.Target(options.output, options.slot_or_all, options.format)
        return profile.profile(path, options.slot_or_all, options.seconds, options.format, target, as_json=options.json)
    return stacks.stacks_of_all(path, as_json=options.json)


def _top(path: Path) -> int:
    """Show the service on the whole terminal until the user quits."""
    if not (sys.stdin.isatty() and terminal.is_terminal(sys.stdout)):
        why = f"top cannot use this terminal (TERM={os.environ.get('TERM', '')})" if sys.stdout.isatty() else ""
        print(
            f"clusterctl: {why or 'top needs a terminal'}; clusterctl top --json prints its numbers once",
            file=sys.stderr,
        )
        return EX_USAGE
    from clusterd.cli.top.loop import show  # imported here, because only this command needs it

    return show(lambda: result_of(path, Command.TOP, TOP_SECONDS))


def _list(*, as_json: bool) -> int:
    """Print the services of this host and their states."""
    found = list(services.states())
    if as_json:
        print(json.dumps({"succeeded": True, "services": [asdict(each) for each in found]}))
        return 0
    if not found:
        print(f"clusterctl: {services.NONE}", file=sys.stderr)
    width = max((len(escaped(each.name)) for each in found), default=0)
    for each in found:
        print(f"{escaped(each.name).ljust(width)}  {escaped(each.text)}")
    return 0


def _arguments(options: argparse.Namespace) -> dict[str, object]:
    names = ("slot", "workers", "signal", "level", "mode", "follow", "diff", "wait", "now")
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    for name in ("slot_or_all", "slot_or_hooks"):
        if hasattr(options, name):
            given["slot"] = getattr(options, name)
    if options.command == Command.SEND:
        given["message"] = options.message  # null is a valid message
    return given


def _print_event(event: dict[str, Any], *, as_json: bool) -> None:
    clock = datetime.fromtimestamp(event["time"], UTC).astimezone().strftime("%H:%M:%S")
    print(json.dumps(event) if as_json else tables.event_line(event, clock), flush=True)


def _print_result(options: argparse.Namespace, result: dict[str, Any]) -> int:
    succeeded, data = bool(result["succeeded"]), result["data"]
    if options.json:
        if options.command != "events":
            print(json.dumps({"succeeded": succeeded, "text": result["text"], **data}))
    elif not succeeded:
        print(escaped_lines(result["text"]), file=sys.stderr)
    elif options.command in _SHOWN:
        _SHOWN[options.command](data, result["text"])
    elif result["text"]:
        print(escaped_lines(result["text"]))
    if not options.json:
        for note in data.get("notes", ()):
            print(escaped(note), file=sys.stderr)
    return 0 if succeeded else EX_FAILED


def escaped_lines(text: str) -> str:
    """Escape control characters, so that no text of an application can control the terminal."""
    return "\n".join(map(escaped, text.split("\n")))


def _print_workers(data: dict[str, Any], _: str) -> None:
    if terminal.is_terminal(sys.stdout):
        terminal.print_workers(data["workers"], sys.stdout)
    else:
        print(tables.workers_text(data["workers"]))


def _print_status(data: dict[str, Any], text: str) -> None:
    print(f"{tables.status_line(data)}\n")
    _print_workers(data, text)
    if data.get("hooks"):
        print(f"\n{words.hooks(data['hooks'])}")


def _print_config(data: dict[str, Any], text: str) -> None:
    changes = data.get("changes")
    if changes is None:
        print("\n".join(tables.settings_lines(data)))
    else:
        print(tables.changes_text(changes) or text)


_SHOWN: dict[str, Callable[[dict[str, Any], str], None]] = {
    "status": _print_status,
    "workers": _print_workers,
    "config": _print_config,
}


# ---- the command line


def command_line() -> argparse.ArgumentParser:
    """Return the parser. The shell completions are made from it too."""
    parser = argparse.ArgumentParser(
        prog="clusterctl", description="See and control a running clusterd.", epilog=_EXIT_STATUS, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"clusterctl {__version__}")
    _with_common(parser, None, False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, epilog=_EXIT_STATUS)
        # Common flags are accepted after the command too. SUPPRESS keeps a value that was given before the command.
        _with_common(added, argparse.SUPPRESS, argparse.SUPPRESS)
        return added

    command("list", "show the services of this host: clusterd and its instances")
    command("status", "show the service and its workers")
    command("workers", "show the workers")
    command("top", "watch the service on the whole terminal: q quits, s r l e c p m a sort")
    reload = command("reload", "roll out the configuration and code on disk; fails with the reason if withdrawn")
    reload.add_argument(
        "--no-wait", dest="wait", action="store_false", default=None, help="request the reload and do not wait"
    )
    _with_slot(command("restart", "replace a worker; the successor starts first"))
    scale = command("scale", "set or change the number of workers until the next reload")
    scale.add_argument("workers", type=_workers_argument, metavar="N|+N|-N")
    stop = command("stop", "drain every worker and end clusterd")
    stop.add_argument("--now", action="store_true", default=None, help="do not drain: cut the requests in-flight")
    kill = _with_slot(command("kill", "send a signal to a worker or to the hooks process"), "hooks")
    kill.add_argument("--signal", type=_signal_argument, metavar="NAME", help="default: TERM")
    events = command("events", "show what has happened")
    events.add_argument("--follow", action="store_true", default=None, help="also show new events, until Ctrl-C")
    stacks = command("stacks", "show the requests, threads and tasks of a worker, or the threads of the hooks process")
    _with_slot(stacks, "hooks", ALL)
    sampled = _with_slot(command("profile", "sample the threads and tasks of a worker, or of all, into a file"), ALL)
    _with_seconds(sampled)
    forms = ", ".join(Format)
    sampled.add_argument(
        "--format", type=Format, choices=list(Format), default=Format.FLAMEGRAPH, metavar="FORMAT", help=forms
    )
    sampled.add_argument("--output", type=Path, metavar="FILE", help="default: a new file here; - for standard output")
    _with_seconds(_with_slot(command("memory", "show what a worker allocates in a while, its objects and its memory")))
    _with_slot(command("debug", "start debugpy in a worker, on debug.port + SLOT, and say how to attach"))
    config = command("config", "show the configuration that runs")
    config.add_argument("--diff", action="store_true", default=None, help="show only what a reload would change")
    send = command("send", "send a message to the application in a worker, or in all workers")
    _with_slot(send, ALL)
    send.add_argument("message", type=_message_argument, metavar="JSON", help="any JSON value; - for one on stdin")
    level = command("log-level", "change the log level until the next reload")
    levels = [level.name.lower() for level in Level]
    level.add_argument("level", metavar="LEVEL", choices=levels, help=", ".join(levels))
    log = command("log", "change which requests are logged, until the next reload")
    log.add_argument("log_setting", metavar="access", choices=["access"], help="the setting log.access")
    log.add_argument("mode", metavar="MODE", choices=list(AccessLog), help=", ".join(AccessLog))
    return parser


def _with_common(parser: argparse.ArgumentParser, path: object, as_json: object) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", type=Path, metavar="PATH", default=path, help="the control socket")
    where.add_argument(
        "--config", type=Path, metavar="FILE", default=path, help="the configuration that names the socket"
    )
    where.add_argument(
        "-i",
        "--instance",
        dest="config",
        type=services.configuration_of,
        metavar="NAME",
        default=path,
        help="the instance clusterd@NAME.service",
    )
    parser.add_argument("--json", action="store_true", default=as_json, help="print JSON, for programs")


def _with_slot(parser: argparse.ArgumentParser, *others: str) -> argparse.ArgumentParser:
    """Add the argument SLOT. `others` are words that are accepted instead of the number."""
    number = "the worker's number in the table"
    if others:
        words = " or ".join(others)
        parse, metavar = partial(_number_or, others), "|".join(("SLOT", *others))
        parser.add_argument(f"slot_or_{others[0]}", type=parse, metavar=metavar, help=f"{number}, or {words}")
    else:
        parser.add_argument("slot", type=int, metavar="SLOT", help=number)
    return parser


def _with_seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=_seconds_argument, default=SECONDS, metavar="N", help=f"for how long; default: {SECONDS}"
    )


def _number_or(others: tuple[str, ...], text: str) -> int | str:
    if text in others:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {' nor '.join(others)}") from None


def _message_argument(text: str) -> object:
    try:
        return json.loads(sys.stdin.read() if text == "-" else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}; text needs quotes, as in '\"text\"'") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _workers_argument(text: str) -> str:
    return _checked(parse_workers, text)


def _seconds_argument(text: str) -> int:
    return int(_checked(parse_seconds, text))


def _signal_argument(text: str) -> str:
    return _checked(parse_signal, text)


def _checked(parse: Callable[[object], object], text: str) -> str:
    try:
        parse(text)
    except ControlError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


if __name__ == "__main__":
    sys.exit(main())
