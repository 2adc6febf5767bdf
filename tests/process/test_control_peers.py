"""Who comes to the control socket, how they find it, and how they go away again."""

import json
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support.controlling import asking, clusterctl
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service(workers=2).start()


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
            assert service.ask_to("events", follow=True)["text"] == "32 clients follow the events already"
    assert service.ask_to("events")["succeeded"]
    # A spare template may have come meanwhile, which takes a few.
    wait_until(lambda: len(os.listdir(f"/proc/{service.pid}/fd")) < before + 16, "what they had open is closed")


def test_another_service_is_never_meant_by_mistake(service: Service, tmp_path: Path) -> None:
    """A configuration that cannot be read says nothing of where its service would be: not at the default place."""
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
    assert "this is not a socket" in clusterctl("status", "--socket", str(tmp_path / "app.py")).stderr


def test_top_says_that_it_needs_a_terminal(service: Service) -> None:
    ran = service.clusterctl("top")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "top needs a terminal" in ran.stderr


def test_a_message_may_come_on_stdin(service: Service) -> None:
    ran = clusterctl("send", "1", "-", "--socket", str(service.control), stdin=json.dumps("x" * 5000))
    assert ran.stdout == "sent to 1 worker\n"
    assert clusterctl("send", "1", "NaN", "--socket", str(service.control)).returncode == 2


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
    assert answer["text"] == "slot: 'two' is not the number of a slot (1, 2 and so on)"


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


NOBODY = 65534


def test_other_users_of_the_host_reach_neither_control_nor_metrics(make_service: MakeService) -> None:
    """In a directory that everybody may enter, the mode of the sockets alone keeps others out."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        control, metrics = f"{directory}/control.sock", f"{directory}/metrics.sock"
        service = make_service(control=control, metrics=f"unix:{metrics}", unix_sockets={"mode": "0660"})
        service.control = Path(control)
        service.start()
        for path in (control, metrics):
            assert Path(path).stat().st_mode & 0o007 == 0, path
            assert may_connect(path)
            if os.geteuid() == 0:  # Only root can become another user, to try it.
                assert not may_connect(path, user=NOBODY, group=NOBODY, extra_groups=[])
        assert service.stop() == 0


def may_connect(path: str, **of_process: Any) -> bool:
    """Who may write to a socket may connect to it (unix(7))."""
    return subprocess.run(["test", "-w", path], check=False, **of_process).returncode == 0
