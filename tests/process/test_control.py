"""What operators and programs have done on the control socket, by a whole clusterd."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.controlling import asking, done, pending_request, pids, refused
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

FAILS_ONCE_MORE = """
import os, pathlib
if (pathlib.Path(__file__).parent / "broken").exists():
    raise RuntimeError("no database")
"""


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service(workers=2).start()


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


def test_whoever_waits_for_a_reload_sees_how_far_each_slot_is(service: Service) -> None:
    with asking(service, command="reload") as lines:
        said = [json.loads(line)["text"] for line in lines]
    half = re.compile(r"Reloading: generation 2, 1 of 2 workers replaced(; 1 draining)? \(1 ready, 2 booting\)")
    assert any(map(half.fullmatch, said)), said
    assert said[-1] == "reload succeeded, generation 2 serves"


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


@pytest.mark.parametrize("preload", [True, False])
def test_the_access_log_changes_in_workers_and_those_forked_later(make_service: MakeService, preload: bool) -> None:
    service = make_service(workers=1, preload=preload, log={"access": "off"}).start()
    service.get("/unlogged")
    assert done(service, "log", "access", "all")["text"] == "log.access is all, until the next reload or restart"
    service.get("/logged")
    service.wait_for_line("target=/logged")
    done(service, "restart", "1")
    service.get("/also")
    service.wait_for_line("target=/also")
    assert done(service, "config")["log"]["access"] == "all"
    service.configure()
    assert service.reload().returncode == 0
    service.get("/again")
    done(service, "log", "access", "errors")
    service.get("/no/more")
    assert service.stop() == 0
    assert not re.search("target=/(unlogged|again|no)", service.log())
    assert service.clusterctl("log", "access", "some").returncode == 2


def test_the_access_log_of_a_job_has_no_requests(make_service: MakeService) -> None:
    job = "import clusterd.worker\ndef main():\n    clusterd.worker.stop_event.wait()\n"
    service = make_service(app=None, run="app:main", listen=None, workers=1)
    service.deploy("1", job)
    service.start()
    done(service, "log", "access", "all")
    assert service.stop() == 0
    assert "unexpected message" not in service.log()


def test_the_alarm_that_heeds_interrupts_does_not_kill_clusterctl_at_its_end(tmp_path: Path) -> None:
    # The time in which it could, while the interpreter ends, is hit for certain by an alarm each millisecond.
    code = (
        "import sys; from clusterd.cli import clusterctl; clusterctl.HEED_SECONDS = 0.001; sys.exit(clusterctl.main())"
    )
    command = [sys.executable, "-c", code, "--socket", str(tmp_path / "nothing"), "status"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (69, "")
    assert "no such socket" in ended.stderr
