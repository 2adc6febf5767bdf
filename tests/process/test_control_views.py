"""What operators and programs see on the control socket of a whole clusterd: workers, events, settings, stacks."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.cli import services
from clusterd.cli.clusterctl import main
from clusterd.cli.clusterctl_arguments import command_line
from tests.support.controlling import asking, done, pending_request, pids, refused
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service(workers=2).start()


def test_workers_are_a_table_for_people(service: Service) -> None:
    head, *rows = service.clusterctl("workers").stdout.splitlines()
    assert head.split() == [
        "slot",
        "gen",
        "pid",
        "state",
        "age",
        "restarts",
        "requests",
        "conns",
        "in",
        "flight",
        "memory",
    ]
    assert [row.split()[:2] for row in rows] == [["1", "1"], ["2", "1"]]
    assert service.clusterctl("status").stdout.startswith("Serving: 2 workers, generation 1\n\n")


def test_events_tell_what_has_happened(service: Service) -> None:
    before = pids(service)
    os.kill(before[1], signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    wait_until(lambda: len(service.workers()) == 2, "a replacement")
    lines = service.clusterctl("events", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert [event["event"] for event in events if event.get("slot") == 1] == [
        "fork",
        "online",
        "listening",
        "disconnect",
        "exit",
        "fork",
        "online",
        "listening",
    ]
    (death,) = [event for event in events if event["event"] == "exit"]
    assert (death["pid"], death["reason"]) == (before[1], "signal")
    assert (death["code"], death["signal"]) == (None, "SIGKILL")
    for_people = service.clusterctl("events").stdout
    assert re.search(
        rf"^\d\d:\d\d:\d\d exit slot=1 generation=1 pid={before[1]} reason=signal how=SIGKILL", for_people, re.M
    )


def test_events_are_followed(service: Service) -> None:
    with asking(service, command="events", follow=True) as lines:
        for line in lines:
            if json.loads(line)["event"]["event"] == "ready":
                break
        service.signal(signal.SIGHUP)
        names = []
        for line in lines:
            names.append(json.loads(line)["event"]["event"])
            if names[-1] == "rollout_end":
                break
    assert names[0] == "rollout"
    assert {"reloading", "fork", "online", "listening", "disconnect", "rollout_end"} <= set(names)


HELD = """
import pathlib, time
def app(environ, start_response):
    while environ["PATH_INFO"] == "/slow" and not pathlib.Path("go").exists():
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""


def test_a_worker_that_drains_when_a_stop_comes_is_disconnected_once(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", HELD)
    service.start()
    (old,) = pids(service).values()
    with pending_request(service), asking(service, command="events", follow=True) as lines:
        wait_until(lambda: service.workers()[0]["in_flight"], "it has the request")
        assert service.reload().returncode == 0
        so_far = len(service.lines)
        service.signal(signal.SIGTERM)
        service.wait_for_line(f"worker draining .*pid={old}", after=so_far)
        (service.directory / "go").touch()
        told = [event for line in lines if (event := json.loads(line).get("event", {})).get("pid") == old]
    names = [event["event"] for event in told]
    assert names[-2:] == ["disconnect", "exit"]
    assert names.count("disconnect") == 1


def test_config_shows_what_runs_and_what_a_reload_would_change(service: Service) -> None:
    assert done(service, "config")["workers"] == 2
    assert "rollout.settle: 0s" in service.clusterctl("config").stdout.splitlines()
    assert service.clusterctl("config", "--diff").stdout == "a reload would change no setting\n"
    service.configure(workers=3)
    assert service.clusterctl("config", "--diff").stdout == "workers: 2 -> 3 (applies: next generation)\n"
    service.config.write_text("workers: none of your business")
    assert "a reload would fail: " in refused(service, "config", "--diff")
    assert done(service, "config")["workers"] == 2


def test_config_shows_what_listens_until_a_restart_and_no_secrets(make_service: MakeService) -> None:
    service = make_service(workers=1, environment={"PASSWORD": "secret"}).start()
    listens = done(service, "config")["listen"]
    service.configure(listen=["127.0.0.1:1"], environment={"PASSWORD": "another secret"})
    assert service.clusterctl("reload").returncode == 0
    found = done(service, "config")
    assert found["listen"] == listens
    assert found["environment"] == {"PASSWORD": "(not shown)"}
    assert (
        service.clusterctl("config", "--diff").stdout == f"listen: [{listens[0]}] -> [127.0.0.1:1] (applies: restart)\n"
    )
    service.configure(environment={"OTHER": "secret"})
    assert "secret" not in service.clusterctl("config", "--diff", "--json").stdout


SLEEPS = """
import threading, time
def app(environ, start_response):
    start_response("200 OK", [])
    wait_for_the_end()
    return [b""]

def wait_for_the_end():
    time.sleep(60)
"""


def stacks_of(service: Service, application: str, seen: str) -> str:
    """What `stacks` says of the only worker while a request is under way, once `seen` is in it."""
    service.deploy("1", application)
    service.start()
    with pending_request(service):
        text: str = wait_until(lambda: seen in (said := service.clusterctl("stacks", "1").stdout) and said, seen)
    return text


def test_stacks_show_requests_and_threads(make_service: MakeService) -> None:
    text = stacks_of(make_service(workers=1, threads=2), SLEEPS, "wait_for_the_end")
    assert "Request GET /slow (running, for " in text
    assert "Thread clusterd-1, which runs GET /slow (most recent call last):" in text


def test_stacks_of_a_worker_whose_loop_does_not_turn_come_by_a_signal(make_service: MakeService) -> None:
    text = stacks_of(make_service(workers=1, threads=0), SLEEPS, "wait_for_the_end")
    assert text.startswith(
        "worker 1 did not answer within 0.5 s: by signal, threads only\nRequests in hand:\n  GET /slow for "
    )
    assert ", which runs the event loop (most recent call first):" in text


def test_a_worker_that_stands_still_survives_every_question(service: Service) -> None:
    (pid, *_) = pids(service).values()
    os.kill(pid, signal.SIGSTOP)
    for number in range(1100):
        with asking(service, command="stacks", slot=1):
            pass
        service.ask_to("log-level", level="info" if number % 50 else "debug")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "Thread" in service.clusterctl("stacks", "1").stdout, "it answers again")
    assert pids(service)[1] == pid
    assert "the master is gone" not in service.log()


ASYNC_SLEEPS = """
import asyncio
async def app(scope, receive, send):
    if scope["type"] == "http":
        await wait_for_the_end()

async def wait_for_the_end():
    await asyncio.sleep(60)
"""


def test_stacks_show_what_a_task_waits_for(make_service: MakeService) -> None:
    text = stacks_of(make_service(workers=1), ASYNC_SLEEPS, "/slow")
    assert "await asyncio.sleep(60)" in text
    assert ", which runs GET /slow (most recent call last):" in text


def test_a_slot_whose_worker_keeps_failing_stays_in_sight(make_service: MakeService) -> None:
    service = make_service(workers=2, preload=False).start()
    service.deploy("2", "raise RuntimeError('no database')\n")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    [waiting] = wait_until(lambda: service.workers("backoff"), "it waits for its next try")
    assert (waiting["slot"], waiting["pid"]) == (1, None)
    assert waiting["retry_in"] > 0
    wait_until(lambda: [each for each in service.workers("backoff") if each["failures"] > 2], "it has failed again")
    shown = service.clusterctl("status").stdout
    assert "slot 1: next try in" in shown
    assert "RuntimeError: no database" in shown
    assert service.workers("backoff")[0]["restarts"] >= 1
    service.deploy("3")
    wait_until(lambda: len(service.workers()) == 2, "it serves again")
    assert not service.workers("backoff")


def test_stacks_of_all_workers_are_shown_one_after_the_other(service: Service) -> None:
    shown = service.clusterctl("stacks", "all").stdout
    assert [line for line in shown.splitlines() if line.startswith("== ")] == ["== worker 1", "== worker 2"]
    assert shown.count("runs the event loop") == 2
    as_json = json.loads(service.clusterctl("stacks", "all", "--json").stdout)
    assert (as_json["succeeded"], sorted(as_json["stacks"])) == (True, ["1", "2"])


def test_the_services_of_a_host_are_listed_with_their_states(make_service: MakeService, tmp_path: Path) -> None:
    runtime, configurations = tmp_path / "run", tmp_path / "etc"
    for directory in (runtime / "clusterd-shop", configurations):
        directory.mkdir(parents=True)
    for name in ("clusterd", "jobs"):
        (configurations / f"{name}.yaml").touch()
    make_service(control=str(runtime / "clusterd-shop" / "control.sock"), workers=1).start(wait=False).wait_for_line(
        "worker ready"
    )
    wait_until(lambda: "Serving" in [*services.states(configurations, runtime)][2].text, "it serves")
    assert [(each.name, each.is_running) for each in services.states(configurations, runtime)] == [
        ("clusterd", False),
        ("jobs", False),
        ("shop", True),
    ]


def test_a_host_without_services_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(services, "states", lambda: iter(()))
    monkeypatch.setattr(sys, "argv", ["clusterctl", "list"])
    assert main() == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "no service of systemd" in told.err


@pytest.mark.parametrize("flag", ["-i", "--instance"])
def test_an_instance_is_named_by_its_name(flag: str) -> None:
    parsed = command_line().parse_args([flag, "shop", "status"])
    assert parsed.config == Path("/etc/clusterd/shop.yaml")
    with pytest.raises(SystemExit):
        command_line().parse_args([flag, "../shop", "status"])
