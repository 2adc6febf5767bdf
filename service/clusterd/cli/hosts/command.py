"""`clusterctl --host`: asks the clusterctl of each host, all at the same time."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing

from clusterd.cli import tables, terminal
from clusterd.cli.asking import TAKES_LONG
from clusterd.cli.hosts.answers import checked, document, event_text, events_by_time, shown
from clusterd.cli.hosts.outcomes import Outcome, event_in, outcome_of
from clusterd.cli.hosts.processes import MOST_AT_ONCE, Ended, Interrupted, Line, run_all
from clusterd.cli.hosts.ssh_command import RemoteCommand, arguments_of, remote_command, stdin_of
from clusterd.wire.control import Command

SECONDS = 30.0
"""The time limit for the answer of a host, with the time to connect, to a command that is carried out at once."""
EX_FAILED = 1
EX_USAGE = 2
_SIGNALLED = 128
"""To which a shell adds the number of the signal that has ended a program."""

_ONE_HOST_ONLY = {
    "top": "top watches one host: ssh -t HOST clusterctl top (top --json prints the numbers of all hosts once)",
    "profile": "profile writes a file of one host: ssh HOST clusterctl profile SLOT --output - > FILE",
    "memory": "memory examines a worker of one host: ssh HOST clusterctl memory SLOT",
    "debug": "debug opens a port in a worker of one host: ssh HOST clusterctl debug SLOT",
}


class _UsageError(Exception):
    """The command line cannot be carried out."""


def run(options: argparse.Namespace, hosts: Sequence[str]) -> int:
    """Run the command on every host and print the answers. Returns the exit status."""
    try:
        _refuse(options, hosts)
        ssh = _program("--ssh", options.ssh or os.environ.get("CLUSTERCTL_SSH") or "ssh")
        clusterctl = _program("--remote", options.remote or "clusterctl")
    except _UsageError as error:
        print(f"clusterctl: {error}", file=sys.stderr)
        return EX_USAGE
    arguments, stdin = arguments_of(options), stdin_of(options)
    commands = {host: RemoteCommand(remote_command(ssh, host, clusterctl, arguments), stdin) for host in hosts}
    try:
        if options.command == "events" and options.follow:
            return _follow(options, commands)
        return _ask(options, commands)
    except OSError as error:
        print(f"clusterctl: cannot run {ssh[0]}: {error.strerror} (Debian package openssh-client)", file=sys.stderr)
        return EX_FAILED


def _refuse(options: argparse.Namespace, hosts: Sequence[str]) -> None:
    """Raise _UsageError for a command that has no meaning for several hosts."""
    if options.command in _ONE_HOST_ONLY and not (options.command == "top" and options.json):
        raise _UsageError(_ONE_HOST_ONLY[options.command])
    if options.command == "events" and options.follow and len(hosts) > MOST_AT_ONCE:
        raise _UsageError(f"events --follow can follow {MOST_AT_ONCE} hosts, not {len(hosts)}")


def _program(flag: str, text: str) -> list[str]:
    """Return the words of a command. Raises _UsageError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _UsageError(f"{flag}: {text!r}: {error}") from error
    # As the first word of the command on the host it would be an option of ssh, which reads options after it too.
    if not words or words[0].startswith("-"):
        raise _UsageError(f"{flag}: {text!r} names no program")
    return words


def _limit(options: argparse.Namespace) -> float | None:
    if options.timeout is not None:
        return float(options.timeout)
    takes_long = options.command in TAKES_LONG and (options.command != "events" or bool(options.follow))
    takes_long = takes_long or (options.command == Command.DRAIN and bool(options.wait))
    return None if takes_long else SECONDS


def _ask(options: argparse.Namespace, commands: dict[str, RemoteCommand]) -> int:
    """Wait for the answers, then print them in the order of the command line."""
    spinner = terminal.Spinner(sys.stderr)
    outcomes: dict[str, Outcome] = {}
    seconds = _limit(options)
    interrupted_by = 0
    spinner.show(_progress(commands, outcomes))
    try:
        with closing(run_all(commands, seconds)) as told:
            for news in told:
                if isinstance(news, Ended):
                    outcome = outcome_of(news, seconds, of_events=options.command == "events")
                    outcomes[news.host] = checked(options.command, outcome)
                    spinner.show(_progress(commands, outcomes))
    except Interrupted as interrupted:
        interrupted_by = interrupted.number
    finally:
        spinner.clear()
    has_failed = _print(options, commands, [outcomes[host] for host in commands if host in outcomes])
    if interrupted_by:
        waiting = ", ".join(host for host in commands if host not in outcomes)
        print(f"clusterctl: interrupted; clusterd goes on with the command on {waiting}", file=sys.stderr)
        return _SIGNALLED + interrupted_by
    return EX_FAILED if has_failed else 0


def _progress(commands: dict[str, RemoteCommand], outcomes: dict[str, Outcome]) -> str:
    waiting = [host for host in commands if host not in outcomes]
    return f"{len(outcomes)} of {len(commands)} hosts have answered; waiting for {', '.join(waiting)}"


def _print(options: argparse.Namespace, commands: dict[str, RemoteCommand], outcomes: list[Outcome]) -> bool:
    """Print the answers. Returns whether any host has failed."""
    answers = shown(options.command, outcomes)
    if options.command == "events":
        width = max(map(len, commands))
        for host, event in events_by_time(outcomes):
            print(event_text(host, event, width, as_json=options.json))
    elif options.json:
        print(document(outcomes))
        return answers.has_failed
    for line in answers.lines:
        print(line)
    if answers.workers:
        print(end="\n" if answers.lines else "")
        if terminal.is_terminal(sys.stdout):
            terminal.print_workers(answers.workers, sys.stdout)
        else:
            print(tables.workers_text(answers.workers))
    sys.stdout.flush()
    for line in answers.complaints:
        print(line, file=sys.stderr)
    return answers.has_failed


def _follow(options: argparse.Namespace, commands: dict[str, RemoteCommand]) -> int:
    """Print the events of all hosts as they come, until all have ended or a signal comes."""
    width = max(map(len, commands))
    seconds, has_failed = _limit(options), False
    try:
        with closing(run_all(commands, seconds, keeps_lines=False)) as told:
            for news in told:
                if isinstance(news, Line):
                    if event := event_in(news.text):
                        print(event_text(news.host, event, width, as_json=options.json), flush=True)
                    continue
                outcome = outcome_of(news, seconds, of_events=True)
                has_failed = has_failed or outcome.failure is not None
                for line in shown("events", [outcome]).complaints:
                    print(line, file=sys.stderr)
    except Interrupted as interrupted:
        return _SIGNALLED + interrupted.number
    return EX_FAILED if has_failed else 0
