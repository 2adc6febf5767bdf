"""`clusterctl --host`: whole services, one for each host, with a stand-in for ssh that runs the commands here."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.cli.hosts import processes
from clusterd.cli.hosts.processes import Cut, Ended, Line
from clusterd.cli.hosts.ssh_command import RemoteCommand
from tests.support.fleet import Fleet
from tests.support.processes import is_alive
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]
WAITS = "exec sleep 600"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    directory = tmp_path / "a fleet"
    directory.mkdir()
    return Fleet(directory)


def test_each_command_asks_all_hosts_and_says_which_have_failed(fleet: Fleet, make_service: MakeService) -> None:
    services = {name: make_service(workers=1).start() for name in ("web1", "web2")}
    for name, service in services.items():
        fleet.add_service(name, service)
    both = ("--host", "web1,web2")

    status = fleet.clusterctl(*both, "status")
    assert (status.returncode, status.stderr) == (0, "")
    lines = status.stdout.splitlines()
    assert lines[:3] == [f"{host}  Serving: 1 worker, generation 1" for host in services] + [""]
    assert lines[3].startswith("host  slot  gen")
    pids = [service.workers()[0]["pid"] for service in services.values()]
    assert [line.split()[:5] for line in lines[4:]] == [
        [host, "1", "1", str(pid), "ready"] for host, pid in zip(services, pids, strict=True)
    ]

    found = json.loads(fleet.clusterctl("status", "--json", *both).stdout)
    assert [found[host]["workers"][0]["pid"] for host in services] == pids
    assert json.loads(fleet.clusterctl(*both, "top", "--json").stdout)["web2"]["slots"]

    assert fleet.clusterctl(*both, "scale", "+1").stdout.splitlines() == [
        f"{host}  2 workers wanted, until the next reload or restart" for host in services
    ]
    message = 'it\'s "quoted" $(touch owned) \\ \N{SNOWMAN}' + "x" * 50_000
    assert fleet.clusterctl(*both, "send", "all", json.dumps(message)).returncode == 0
    assert not list(fleet.directory.rglob("owned"))

    services["web2"].configure(app="nothing:app")
    reload = fleet.clusterctl(*both, "reload")
    assert reload.returncode == 1
    assert reload.stdout == "web1  reload succeeded, generation 2 serves\n"
    assert reload.stderr.startswith("clusterctl: web2: refused: ")
    assert len(reload.stderr.splitlines()) == 1
    events = fleet.clusterctl(*both, "events", "--json")
    heard = [json.loads(line) for line in events.stdout.splitlines()]
    assert {(each["host"], each["failure"] is None) for each in heard if each["event"] == "rollout_end"} >= {
        ("web1", True),
        ("web2", False),
    }
    assert [each["time"] for each in heard] == sorted(each["time"] for each in heard)


def test_the_reason_of_each_host_is_one_line_and_the_others_are_shown(fleet: Fleet, make_service: MakeService) -> None:
    fleet.add_service("good", make_service(workers=1).start())
    fleet.add("bare", None)
    fleet.add("stopped", "echo 'clusterctl: no control socket at /run/x' >&2; exit 69")
    fleet.add("strange", "echo '[1]'")
    asked = fleet.clusterctl("--host", "good,lost,bare,stopped,strange", "workers")
    assert asked.returncode == 1
    assert [line.split()[0] for line in asked.stdout.splitlines()] == ["host", "good"]
    told = dict(line.removeprefix("clusterctl: ").split(": ", 1) for line in asked.stderr.splitlines())
    assert list(told) == ["lost", "bare", "stopped", "strange"]
    assert told["lost"].startswith("unreachable: ssh: Could not resolve hostname lost")
    assert told["bare"].startswith("no clusterctl: ") and told["bare"].endswith("not found")
    assert told["stopped"] == "no clusterd: no control socket at /run/x"
    assert told["strange"].startswith("failed: ")
    found = json.loads(fleet.clusterctl("--host", "good,lost", "--json", "status").stdout)
    assert (found["good"]["succeeded"], found["lost"]["failure"]) == (True, "unreachable")


def test_a_host_that_takes_too_long_is_given_up(fleet: Fleet) -> None:
    fleet.add("slow", WAITS)
    late = fleet.clusterctl("--host", "slow", "--timeout", "1", "workers")
    assert late.returncode == 1
    assert late.stderr == "clusterctl: slow: late: no answer within 1 second; it may go on with the command\n"
    assert not [pid for pid in fleet.pids() if is_alive(pid)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", [WAITS, "trap '' TERM INT; while kill -0 $PPID 2>/dev/null; do sleep 0.1; done"])
def test_a_signal_ends_every_ssh_and_says_who_has_not_answered(
    fleet: Fleet, number: signal.Signals, script: str
) -> None:
    fleet.add("quick", 'echo \'{"succeeded": true, "text": "done"}\'')
    fleet.add("slow1", script)
    fleet.add("slow2", script)
    process = fleet.begin("--host", "quick,slow1,slow2", "reload")
    wait_until(lambda: len(fleet.pids()) == 3, "all have begun")
    wait_until(lambda: sum(map(is_alive, fleet.pids())) == 2, "one has answered")
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + number
    assert output == "quick  done\n"
    assert errors == "clusterctl: interrupted; clusterd goes on with the command on slow1, slow2\n"
    assert not [pid for pid in fleet.pids() if is_alive(pid)]


def test_an_ssh_that_leaves_a_process_with_its_output_is_not_waited_for(fleet: Fleet) -> None:
    # As the ssh that ControlPersist leaves behind (ssh_config(5)).
    fleet.add("web1", 'sleep 600 & echo $! > ../left; echo \'{"succeeded": true, "text": "done"}\'')
    try:
        assert fleet.clusterctl("--host", "web1", "reload").stdout == "web1  done\n"
    finally:
        os.kill(int((fleet.directory / "left").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("keeps_lines", "cut"), [(True, Cut.TOO_LONG), (False, None)])
def test_output_has_a_limit_except_where_lines_are_only_passed_on(
    monkeypatch: pytest.MonkeyPatch, keeps_lines: bool, cut: Cut | None
) -> None:
    monkeypatch.setattr(processes, "MOST_BYTES", 4096)
    commands = {"web1": RemoteCommand(("seq", "10000"))}
    *lines, end = processes.run_all(commands, None, keeps_lines=keeps_lines)
    assert isinstance(end, Ended) and end.cut is cut
    if not keeps_lines:
        assert [line.text for line in lines if isinstance(line, Line)] == [b"%d" % n for n in range(1, 10001)]


def test_more_hosts_than_run_at_once_are_all_asked(fleet: Fleet) -> None:
    names = [f"web{number}" for number in range(40)]
    for name in names:
        fleet.add(name, f'echo \'{{"succeeded": true, "text": "{name}"}}\'')
    answers = fleet.clusterctl("--host", ",".join(names), "log-level", "debug")
    assert [line.split() for line in answers.stdout.splitlines()] == [[name, name] for name in names]
    assert fleet.clusterctl("--host", ",".join(names), "events", "--follow").returncode == 2


def test_events_are_followed_on_all_hosts_until_interrupted(fleet: Fleet, make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    fleet.add_service("web1", service)
    fleet.add("web2", 'echo \'{"event": "ready", "time": 1}\'; echo \'no event\'; exec sleep 600')
    process = fleet.begin("--host", "web1,web2,lost", "events", "--follow", "--json")
    assert process.stdout is not None
    heard: list[dict[str, object]] = []
    service.ask_to("kill", slot=1, signal="KILL")
    while {("web1", "exit"), ("web2", "ready")} - {(each["host"], each["event"]) for each in heard}:
        heard.append(json.loads(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert errors.startswith("clusterctl: lost: unreachable: ")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--host", "web1", "top"), "ssh -t HOST clusterctl top"),
        (("--host", "web1", "profile", "all"), "profile writes a file of one host"),
        (("--host", "web1", "memory", "1"), "memory examines a worker of one host"),
        (("--host", "web1", "debug", "1"), "debug opens a port"),
        (("--host=-oProxyCommand=touch owned", "status"), "is no host"),
        (("--host", "web1,", "status"), "has an empty name"),
        (("--host", "web1", "--remote=-oProxyCommand=x", "status"), "names no program"),
        (("--host", "web1", "--ssh", "ssh 'x", "status"), "No closing quotation"),
        (("--ssh", "ssh", "status"), "--ssh is of use with --host only"),
        (("--host", "web1", "--timeout", "0", "status"), "is not a number from 1"),
    ],
)
def test_what_cannot_be_done_on_several_hosts_is_refused(fleet: Fleet, arguments: tuple[str, ...], why: str) -> None:
    fleet.add("web1", "touch ../asked")
    refused = fleet.clusterctl(*arguments)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert not fleet.pids()


def test_a_missing_ssh_is_named(fleet: Fleet) -> None:
    failed = fleet.clusterctl(
        "--host", "web1,web2", "--ssh", str(fleet.directory / "no ssh").replace(" ", "\\ "), "list"
    )
    assert failed.returncode == 1
    assert failed.stderr == (
        f"clusterctl: cannot run {fleet.directory}/no ssh: No such file or directory (Debian package openssh-client)\n"
    )
