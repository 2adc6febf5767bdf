"""The command `clusterctl`: shows and controls a running clusterd over its control socket."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clusterd.cli import services, tables, terminal, upgrading
from clusterd.cli.asking import Unreachable, ask, result_of, socket_path
from clusterd.cli.clusterctl_arguments import ALL, command_line, hosts_of
from clusterd.cli.examining.formats import CannotWrite
from clusterd.dashboard import words
from clusterd.log.record import escaped
from clusterd.wire.control import Command, ControlError

EX_FAILED = 1
EX_USAGE = 2
EX_NOT_ROLLED_OUT = 3
EX_UNAVAILABLE = 69
EX_INTERRUPTED = 130

_COMMANDS = {"workers": "status", "log": "log-access"}
"""Commands that have another name in the protocol."""

HEED_SECONDS = 0.5
"""How long an interrupt may be overlooked."""

TOP_SECONDS = 2.0
"""The time limit for an answer in `top`, which reads keys only between two answers."""


def main() -> int:
    """Run the command and return the exit status."""
    options = command_line().parse_args()
    with _interrupts_heeded():
        return _carried_out(options)


def _carried_out(options: argparse.Namespace) -> int:
    """Run the command, say what was in its way, and return the exit status."""
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


@contextmanager
def _interrupts_heeded() -> Iterator[None]:
    """Have Ctrl-C end every wait. One that comes just before the system call, or to another thread, does not end it.

    The alarm does, soon after (signal(7)): Python then handles both signals, and goes on waiting after an alarm. It is
    called off before the interpreter ends, which takes the handler away: an alarm after that would kill the process.
    """
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, HEED_SECONDS, HEED_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _run(options: argparse.Namespace, spinner: terminal.Spinner) -> int:
    if hosts := hosts_of(options):
        from clusterd.cli.hosts import command as on_hosts  # imported here: a `systemctl reload` must not wait for it

        return on_hosts.run(options, hosts)
    if flags := [f"--{name}" for name in ("ssh", "remote", "timeout") if getattr(options, name) is not None]:
        print(f"clusterctl: {flags[0]} is of use with --host only", file=sys.stderr)
        return EX_USAGE
    if options.command == "list":
        return _list(as_json=options.json)
    path = socket_path(options.socket, options.config)
    if options.command == "top" and not options.json:
        return _top(path)
    if options.command in (Command.PROFILE, Command.MEMORY) or getattr(options, "slot_or_hooks", None) == ALL:
        return _examine(path, options)
    if options.command == Command.UPGRADE:

        def tell(text: str) -> None:
            spinner.clear()
            if not options.json:
                print(text, flush=True)

        result = upgrading.upgrade(path, spinner.show, tell)
        spinner.clear()
        status = _print_result(options, result)
        return EX_NOT_ROLLED_OUT if status and result["data"] else status
    command = Command(_COMMANDS.get(options.command, options.command))
    result = {}
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


if __name__ == "__main__":
    sys.exit(main())
