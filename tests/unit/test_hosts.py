"""`clusterctl --host`: which hosts it takes, what it has ssh run, and what it makes of the end. No process."""

import argparse
import io
import json
import shlex
from typing import Any

import pytest

from clusterd.cli.clusterctl_arguments import command_line, hosts_of
from clusterd.cli.hosts.answers import checked, document, shown
from clusterd.cli.hosts.destinations import parse_hosts
from clusterd.cli.hosts.outcomes import Failure, Outcome, outcome_of
from clusterd.cli.hosts.processes import Cut, Ended
from clusterd.cli.hosts.ssh_command import arguments_of, remote_command, stdin_of

pytestmark = pytest.mark.engine_independent

WORKER = {
    "slot": 1,
    "generation": 1,
    "pid": 4711,
    "state": "ready",
    "age": 4.5,
    "restarts": 0,
    "requests": 6,
    "connections": 0,
    "in_flight": 0,
    "memory": 22 << 20,
    "debugger": None,
}
STATUS: dict[str, Any] = {"succeeded": True, "text": "", "status": "Serving: 1 worker", "workers": [WORKER]}

EVERY_ARGUMENT = {
    "slot": ["2"],
    "slot_or_all": ["all"],
    "slot_or_hooks": ["hooks"],
    "workers": ["-1"],
    "level": ["debug"],
    "log_setting": ["access"],
    "mode": ["slow"],
    "message": ['{"a": ["\'", "$(id)", null]}'],
    "signal": ["--signal", "USR1"],
    "now": ["--now"],
    "follow": ["--follow"],
    "diff": ["--diff"],
}
"""How each argument of a command is written, by its name."""
WAITING = {"reload": ["--no-wait"], "drain": ["--wait"]}
ON_ONE_HOST_ONLY = {"profile", "memory", "debug"}
"""Commands that are refused for several hosts."""
OF_THE_CALLER = {"help", "hosts", "more_hosts", "timeout", "ssh", "remote", "json"}
"""What the clusterctl of the other host is not given as it was."""


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    # ruff: noqa: SLF001 - argparse has no public access to its actions.
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def parsed(*arguments: str) -> argparse.Namespace:
    return command_line().parse_args(arguments)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("web1", ["web1"]),
        ("web1,web2", ["web1", "web2"]),
        ("web1,web2,web1", ["web1", "web2"]),
        ("deploy@web1,ssh://deploy@web2:2222", ["deploy@web1", "ssh://deploy@web2:2222"]),
        ("10.0.0.1,fe80::1%eth0,[2001:db8::1]", ["10.0.0.1", "fe80::1%eth0", "[2001:db8::1]"]),
    ],
)
def test_hosts_are_what_ssh_takes_each_of_them_once(text: str, hosts: list[str]) -> None:
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "web1,", ",web1", "web1,,web2", "deploy@", "ssh://", "@"),
        *("-oProxyCommand=touch /tmp/x", "-oProxyCommand=x", "-", "web1,-F/tmp/x", "-l@web1", "root@-web1", "ssh://-x"),
        *(
            "web1;id",
            "web1 id",
            "$(id)",
            "`id`",
            "web1|id",
            "a'b",
            'a"b',
            "web1\nid",
            "web1\x00",
            "a&b",
            "a>b",
            "{a}",
            "~",
        ),
    ],
)
def test_what_ssh_or_a_shell_would_take_for_something_else_is_no_host(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_hosts(text)


def test_hosts_before_and_after_the_command_are_all_asked() -> None:
    assert hosts_of(parsed("--host", "a,b", "--host", "c", "status", "--host", "d,a", "--host=e")) == [*"abcde"]
    assert hosts_of(parsed("status")) == []


def test_no_argument_becomes_an_option_of_ssh_or_a_word_of_the_hosts_shell() -> None:
    words = remote_command(["ssh", "-F", "a file"], "web1", ["sudo", "-n", "clusterctl"], ["--socket=/a b'$(id)\n;"])
    assert words[:3] == ("ssh", "-F", "a file")
    assert words[-3:-1] == ("--", "web1")
    assert shlex.split(words[-1]) == ["sudo", "-n", "clusterctl", "--socket=/a b'$(id)\n;"]
    assert "BatchMode=yes" in words


@pytest.mark.parametrize("name", sorted(commands_of(command_line()).keys() - ON_ONE_HOST_ONLY))
def test_every_argument_of_every_command_reaches_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = [each.dest for each in commands_of(command_line())[name]._actions if each.dest not in OF_THE_CALLER]
    own = [dest for dest in actions if dest not in ("socket", "config")]
    positional = [each.dest for each in commands_of(command_line())[name]._actions if not each.option_strings]
    for flags, given in (
        (["--socket=/run/x y/control.sock"], own),
        (["-i", "blog"], own),
        ([], own),
        ([], [dest for dest in own if dest in positional]),
    ):
        words = [word for dest in given for word in (WAITING[name] if dest == "wait" else EVERY_ARGUMENT[dest])]
        here = parsed(*flags, "--host=web1", name, *words)
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin_of(here).decode()))
        there = parsed(*arguments_of(here))
        assert there.json
        assert hosts_of(there) == []
        for dest in ("command", "socket", "config", *own):
            assert getattr(there, dest) == getattr(here, dest)


def ended(status: int, output: str = "", errors: str = "", cut: Cut | None = None) -> Ended:
    return Ended("web1", status, output.encode(), errors.encode(), cut)


REFUSED = json.dumps({"succeeded": False, "text": "slot 9: there is none\nthey are 1 to 2"})


@pytest.mark.parametrize(
    ("end", "failure", "text"),
    [
        (ended(0, '{"succeeded": true, "text": "done"}\n'), None, "done"),
        (ended(0, 'welcome\n{"succeeded": true, "text": "done"}\n', "a note"), None, "done"),
        (ended(1, REFUSED), Failure.REFUSED, "slot 9: there is none; they are 1 to 2"),
        (ended(255, "", "a banner\nssh: connect to host web1 port 22: Connection refused\n"), Failure.UNREACHABLE,
         "ssh: connect to host web1 port 22: Connection refused"),
        (ended(255, "", "deploy@web1: Permission denied (publickey).\r\n"), Failure.UNREACHABLE,
         "deploy@web1: Permission denied (publickey)."),
        (ended(255), Failure.UNREACHABLE, "ssh has ended with 255"),
        (ended(127, "", "sh: 1: clusterctl: not found\n"), Failure.NO_CLUSTERCTL, "sh: 1: clusterctl: not found"),
        (ended(126, "", "sh: 1: clusterctl: Permission denied\n"), Failure.NO_CLUSTERCTL,
         "sh: 1: clusterctl: Permission denied"),
        (ended(69, "", "clusterctl: /run/x: permission denied: run as root\n"), Failure.NO_CLUSTERD,
         "/run/x: permission denied: run as root"),
        (ended(2, "", "usage: clusterctl\nclusterctl: error: invalid choice: 'drain'\n"), Failure.FAILED,
         "error: invalid choice: 'drain' (is clusterd older there?)"),
        (ended(1, "", "sudo: a password is required\n"), Failure.FAILED, "sudo: a password is required"),
        (ended(-9), Failure.FAILED, "ssh was ended by signal 9 and has said nothing"),
        (ended(3, "no JSON"), Failure.FAILED, "ssh has ended with 3 and has said nothing"),
        (ended(0, "no JSON"), Failure.FAILED, "its clusterctl has printed no answer in JSON"),
        (ended(0, '["succeeded"]'), Failure.FAILED, "its clusterctl has printed no answer in JSON"),
        (ended(0, '{"succeeded": "yes"}'), Failure.FAILED, "its clusterctl has printed no answer in JSON"),
        (ended(0, "[" * 100_000), Failure.FAILED, "its clusterctl has printed no answer in JSON"),
        (ended(-15, cut=Cut.LATE), Failure.LATE, "no answer within 30 seconds; it may go on with the command"),
        (ended(-15, cut=Cut.TOO_LONG), Failure.FAILED, "its answer is too long"),
        (ended(255, "", "\x1b]0;owned\x07" + "x" * 5000), Failure.UNREACHABLE, None),
    ],
)  # fmt: skip
def test_each_end_is_an_answer_or_one_line_that_says_why_not(
    end: Ended, failure: Failure | None, text: str | None
) -> None:
    outcome = outcome_of(end, 30.0)
    assert outcome.failure is failure
    assert text in (None, outcome.text)
    assert len(outcome.text) < 400
    assert outcome.text.isprintable()


def test_answers_have_a_column_for_the_host_and_failures_a_line_each() -> None:
    long, short, lost = (
        outcome_of(Ended(host, 0, json.dumps(STATUS).encode(), b""), 30) for host in ("web10", "b", "x")
    )
    lost = Outcome(lost.host, Failure.UNREACHABLE, "ssh: no route", {})
    answers = shown("status", [long, lost, short])
    assert answers.lines == ["web10  Serving: 1 worker", "b      Serving: 1 worker"]
    assert [worker["host"] for worker in answers.workers] == ["web10", "b"]
    assert answers.complaints == ["clusterctl: x: unreachable: ssh: no route"]
    assert answers.has_failed
    found = json.loads(document([long, lost]))
    assert found["web10"] == STATUS
    assert found["x"] == {"succeeded": False, "text": "ssh: no route", "failure": "unreachable"}


@pytest.mark.parametrize(
    "answer",
    [
        {"succeeded": True},
        {**STATUS, "workers": None},
        {**STATUS, "workers": [1]},
        {**STATUS, "workers": [{}]},
        {**STATUS, "workers": [{**WORKER, "age": "old", "memory": []}]},
        {**STATUS, "hooks": 5},
    ],
)
def test_an_answer_that_cannot_be_shown_is_a_failure_of_its_host_alone(answer: dict[str, Any]) -> None:
    outcome = checked("status", Outcome("web1", None, "", answer))
    assert outcome.failure is Failure.FAILED
    assert outcome.text.startswith("its clusterctl answers in another way: ")
    assert not shown("status", [outcome]).lines


def test_what_a_host_says_cannot_control_the_terminal() -> None:
    hostile = {**STATUS, "status": "\x1b[2J", "workers": [{**WORKER, "state": "\x1b[2J", "host": "another"}]}
    answers = shown("status", [checked("status", Outcome("web1", None, "", hostile))])
    assert all(line.isprintable() for line in answers.lines)
    assert answers.workers[0]["host"] == "web1"
