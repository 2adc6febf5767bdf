"""What operators and programs ask on the control socket, of a whole clusterd."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.process.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

FAILS_ONCE_MORE = """
import os, pathlib
if (pathlib.Path(__file__).parent / "broken").exists():
    raise RuntimeError("no database")
"""


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service(workers=2).start()


def done(service: Service, *arguments: str) -> dict[str, Any]:
    """What a command that succeeds says to programs."""
    ran = service.clusterctl(*arguments, "--json")
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert answer.pop("succeeded") is True
    return answer


def refused(service: Service, *arguments: str) -> str:
    """Why a command is not carried out."""
    ran = service.clusterctl(*arguments)
    assert ran.returncode == 1, ran.stdout
    assert ran.stdout == ""
    return ran.stderr


def pids(service: Service) -> dict[int, int]:
    return {worker["slot"]: worker["pid"] for worker in service.workers()}


# ---- what changes something


def test_a_worker_is_restarted_its_successor_first(service: Service) -> None:
    before = pids(service)
    assert service.clusterctl("restart", "2").stdout == "a new worker serves in slot 2\n"
    wait_until(lambda: len(service.workers()) == 2, "two workers")
    after = pids(service)
    assert after[1] == before[1]
    assert after[2] != before[2]
    service.wait_for_line(f"worker ended: .*pid={before[2]} reason=restart")


def test_what_can_not_be_restarted_serves_on(make_service: MakeService) -> None:
    service = make_service(workers=1, preload=False)
    service.deploy("1", HELLO + FAILS_ONCE_MORE)
    service.start()
    (service.directory / "broken").touch()
    before = pids(service)
    why = refused(service, "restart", "1")
    assert "slot 1 was not restarted: its successor failed, so it serves on: " in why
    assert "no database" in why
    assert pids(service) == before
    assert service.ask().pid == before[1]
    (service.directory / "broken").unlink()
    done(service, "restart", "1")


def test_a_slot_that_is_not_there_can_not_be_restarted(service: Service) -> None:
    assert refused(service, "restart", "3") == "slot 3 was not restarted: there is no slot 3: they are 1 to 2\n"


def test_scale_takes_a_number_and_a_change(service: Service) -> None:
    assert done(service, "scale", "+2")["workers"] == 4
    wait_until(lambda: len(service.workers()) == 4, "four workers")
    assert done(service, "scale", "-1")["workers"] == 3
    assert done(service, "scale", "1") == {"workers": 1, "text": "1 worker wanted, until the next reload or restart"}
    wait_until(lambda: len(service.workers()) == 1, "one worker")
    assert service.clusterctl("scale", "none").returncode == 2
    assert refused(service, "scale", "-1") == "wanted is 1 now; it may be 1 to 1024\n"


def test_stop_drains_and_says_when_it_is_over(service: Service) -> None:
    assert done(service, "stop") == {"text": "stopped", "exit_status": 0}
    assert service.wait() == 0


SLOW = """
import os, time
def app(environ, start_response):
    print("asked", flush=True)
    while not os.path.exists("may-answer"):
        time.sleep(0.01)
    start_response("200 OK", [])
    return [b"answered"]
"""


def test_who_asks_for_a_stop_again_waits_for_the_same_one(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=1)
    service.deploy("1", SLOW)
    service.start()
    with pending_request(service) as client:
        service.wait_for_line("^asked")
        with asking(service, command="stop") as first, asking(service, command="stop") as second:
            wait_until(lambda: service.log().count("stop asked for") == 2, "both have asked")
            (service.directory / "may-answer").touch()
            for lines in (first, second):
                *_, last = lines
                assert json.loads(last)["text"] == "stopped"
        assert client.recv(65536).endswith(b"answered")
    assert service.wait() == 0


def test_a_stopped_service_can_not_be_reloaded(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=1)
    service.deploy("1", SLOW)
    service.start()
    with pending_request(service):
        service.wait_for_line("^asked")
        service.signal(signal.SIGTERM)
        service.wait_for_line("worker draining")
        assert refused(service, "reload", "--no-wait") == "clusterd is stopping\n"
        (service.directory / "may-answer").touch()


def test_kill_sends_a_signal(service: Service) -> None:
    pid = pids(service)[1]
    assert done(service, "kill", "1", "--signal", "kill") == {
        "text": f"sent SIGKILL to worker 1 (pid {pid})",
        "pid": pid,
    }
    service.wait_for_line(f"worker ended: SIGKILL, after SIGKILL by clusterctl.*pid={pid} reason=killed")
    wait_until(lambda: len(service.workers()) == 2, "a replacement")
    assert refused(service, "kill", "7") == "there is no slot 7: they are 1 to 2\n"
    assert service.clusterctl("kill", "1", "--signal", "nonsense").returncode == 2


def test_reload_need_not_be_waited_for(service: Service) -> None:
    assert done(service, "reload", "--no-wait") == {"rollout": 1, "text": "rollout 1 is asked for"}
    service.wait_for_line("reload succeeded")


def test_who_asks_is_in_the_log(service: Service) -> None:
    done(service, "scale", "2")
    service.wait_for_line(
        rf"scale asked for on the control socket workers=2 peer_pid=\d+ peer_uid={os.getuid()} peer_gid={os.getgid()}"
    )


def test_the_log_level_reaches_workers_and_those_forked_later(make_service: MakeService) -> None:
    service = make_service(workers=1, log={"level": "warning", "access": "all"}).start()
    service.get("/unlogged")
    assert "the log level is info" in done(service, "log-level", "info")["text"]
    service.get("/logged")
    service.wait_for_line("target=/logged")
    done(service, "restart", "1")
    service.get("/also")
    service.wait_for_line("target=/also")
    assert "/unlogged" not in service.log()
    assert done(service, "config")["log"]["level"] == "info"
    assert service.clusterctl("log-level", "loud").returncode == 2


# ---- what only looks


def test_workers_are_a_table_for_people(service: Service) -> None:
    head, *rows = service.clusterctl("workers").stdout.splitlines()
    assert head.split() == ["slot", "gen", "pid", "state", "age", "requests", "conns", "in", "flight", "memory"]
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


def test_whoever_follows_events_learns_that_it_is_over(service: Service) -> None:
    with asking(service, command="events", follow=True) as lines:
        next(lines)
        service.signal(signal.SIGTERM)
        *_, last = lines
    assert json.loads(last)["text"] == "clusterd has ended"


def test_so_many_may_follow_and_who_goes_away_makes_room(service: Service) -> None:
    before = len(os.listdir(f"/proc/{service.pid}/fd"))
    for _ in range(3):
        with ExitStack() as followers:
            for _ in range(32):
                next(followers.enter_context(asking(service, command="events", follow=True)))
            assert service.ask_to("events", follow=True)["text"] == "32 follow the events already"
    assert service.ask_to("events")["succeeded"]
    wait_until(lambda: len(os.listdir(f"/proc/{service.pid}/fd")) <= before, "what they had open is closed")


def test_another_service_is_never_meant_by_mistake(service: Service, tmp_path: Path) -> None:
    """A configuration that can not be read says nothing of where its service would be: not at the default place."""
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "clusterd").mkdir()
    (tmp_path / "clusterd/control.sock").symlink_to(service.control)
    assert clusterctl("workers", **environment).returncode == 0
    broken = tmp_path / "broken.yaml"
    broken.write_text("\tapp: a:b")
    for config, why in ((tmp_path / "typo.yaml", "there is no such file"), (broken, "this is not YAML")):
        ran = clusterctl("--config", str(config), "stop", **environment)
        assert (ran.returncode, why in ran.stderr) == (69, True)
    assert service.ask().pid


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "app.py").touch()
    assert "this is no socket" in clusterctl("status", "--socket", str(tmp_path / "app.py")).stderr


def test_top_says_that_it_needs_a_terminal(service: Service) -> None:
    ran = service.clusterctl("top")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "top needs a terminal" in ran.stderr


def test_a_message_may_come_on_stdin(service: Service) -> None:
    ran = clusterctl("send", "1", "-", "--socket", str(service.control), stdin=json.dumps("x" * 5000))
    assert ran.stdout == "sent to 1 worker\n"
    assert clusterctl("send", "1", "NaN", "--socket", str(service.control)).returncode == 2


def clusterctl(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """Where the service is, is for the command line to say."""
    command = [sys.executable, "-m", "clusterd.cli.clusterctl", *arguments]
    return subprocess.run(
        command, input=stdin, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


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
    assert "Thread clusterd-1 (most recent call last):" in text


def test_stacks_of_a_worker_whose_loop_does_not_turn_come_by_a_signal(make_service: MakeService) -> None:
    text = stacks_of(make_service(workers=1, threads=0), SLEEPS, "wait_for_the_end")
    assert text.startswith("worker 1 did not answer within 0.5 s: by signal, threads only\n")


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


def pending_request(service: Service) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", service.port))
    client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


# ---- peers


class asking:  # noqa: N801 - used like a function
    """The lines of the answer to a request, which is only sent."""

    def __init__(self, service: Service, **request: object) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(service.control))
        self._socket.sendall(json.dumps({"version": 1, **request}).encode() + b"\n")

    def __enter__(self) -> Any:
        return self._socket.makefile("rb")

    def __exit__(self, *_: object) -> None:
        self._socket.close()


TALKS = """
from clusterd import worker

@worker.on("message")
def answer(message):
    worker.send("x" * 400)
"""


def test_a_peer_that_does_not_read_holds_up_nobody_and_is_dropped(make_service: MakeService) -> None:
    service = make_service(workers=2)
    service.deploy("1", HELLO + TALKS)
    service.start()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(str(service.control))
        deaf.sendall(b'{"version": 1, "command": "events", "follow": true}\n')
        for _ in range(1000):
            assert service.ask_to("send", slot="all", message="talk")["succeeded"]
        wait_until(lambda: is_closed(deaf), "the peer that does not read is dropped")


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side has gone: everything that it wrote before is read, and then there is an end."""
    sock.setblocking(False)
    try:
        return sock.recv(1 << 20) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_peer_that_goes_away_is_forgotten(service: Service) -> None:
    for command in ("reload", "events", "stop"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(service.control))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(json.dumps({"version": 1, "command": command}).encode() + b"\n")
        sock.close()
    assert service.wait() == 0
    assert "Traceback" not in service.log()


def test_what_is_no_request_is_answered_with_what_is(service: Service) -> None:
    with asking(service, command="restart", slot="two") as lines:
        answer = json.loads(lines.readline())
    assert (answer["type"], answer["succeeded"]) == ("result", False)
    assert answer["text"] == "slot: 'two' is no number of a slot, which are 1, 2 and so on"


def test_many_at_once_are_all_answered(service: Service) -> None:
    answers: list[bool] = []

    def ask() -> None:
        for _ in range(10):
            answers.append(service.ask_to("status")["succeeded"])

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 100
