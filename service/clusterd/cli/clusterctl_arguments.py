"""The arguments of `clusterctl`."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from clusterd.cli import services
from clusterd.cli.examining.formats import Format
from clusterd.cli.hosts.destinations import parse_hosts
from clusterd.config.model import AccessLog
from clusterd.log import Level
from clusterd.version import __version__
from clusterd.wire.control import SECONDS, ControlError, parse_seconds, parse_signal, parse_workers

ALL = "all"
"""Written in place of a slot."""

_EXIT_STATUS = (
    "exit status: 0 done; 1 clusterd refused, or it failed, with the reason on stderr; 2 usage; "
    "3 upgraded, but the rollout after it has failed; "
    "69 no clusterd answers; 130 interrupted"
)


def command_line() -> argparse.ArgumentParser:
    """Return the parser. The shell completions are made from it too."""
    parser = argparse.ArgumentParser(
        prog="clusterctl", description="See and control a running clusterd.", epilog=_EXIT_STATUS, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"clusterctl {__version__}")
    _with_common(parser, None, False)
    _with_hosts(parser, None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, epilog=_EXIT_STATUS)
        # Common flags are accepted after the command too. SUPPRESS keeps a value that was given before the command.
        _with_common(added, argparse.SUPPRESS, argparse.SUPPRESS)
        _with_hosts(added, argparse.SUPPRESS)
        return added

    command("list", "show the services of this host: clusterd and its instances")
    command("status", "show the service and its workers")
    command("workers", "show the workers")
    command("top", "watch the service on the whole terminal: q quits, s r l e c p m a sort")
    reload = command("reload", "roll out the configuration and code on disk; fails with the reason if withdrawn")
    reload.add_argument(
        "--no-wait", dest="wait", action="store_false", default=None, help="request the reload and do not wait"
    )
    command("upgrade", "replace the program of the master by the one on disk, in place, and then every worker")
    _with_slot(command("restart", "replace a worker; the successor starts first"))
    scale = command("scale", "set or change the number of workers until the next reload; auto: as configured")
    scale.add_argument("workers", type=_workers_argument, metavar="N|+N|-N|auto")
    drain = command("drain", "take the service out of the rotation of load balancers, and go on: it stays up")
    drain.add_argument(
        "--wait", action="store_true", default=False, help="until no request and no connection is left; fails otherwise"
    )
    command("undrain", "put the service back into the rotation of load balancers")
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


def _with_hosts(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the flags for other hosts. Hosts that are named after the command are kept apart from those before it."""
    parser.add_argument(
        "--host",
        dest="hosts" if default is None else "more_hosts",
        action="extend",
        type=parse_hosts,
        metavar="HOST,...",
        default=default,
        help="ask the clusterctl of these hosts over ssh, all at the same time",
    )

    def flag(name: str, kind: Callable[[str], object], metavar: str, text: str) -> None:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, default=default, help=f"with --host: {text}")

    flag("timeout", _seconds_argument, "SECONDS", "how long a host may take; default: 30, and no limit for a reload")
    flag("ssh", str, "COMMAND", "the ssh to use, which may have options; default: $CLUSTERCTL_SSH, or ssh")
    flag("remote", str, "COMMAND", "what runs clusterctl there, such as 'sudo -n clusterctl'; default: clusterctl")


def hosts_of(options: argparse.Namespace) -> list[str]:
    """Return the hosts that `--host` names, each one once. Empty if clusterctl is to ask this host."""
    return list(dict.fromkeys([*(options.hosts or ()), *getattr(options, "more_hosts", ())]))


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
