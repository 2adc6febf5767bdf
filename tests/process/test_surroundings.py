"""What is around clusterd goes away, changes or cannot be read: it serves on, and says what to do."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.support.clients import loaded
from tests.support.processes import open_files
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


# ---- the control socket


def test_a_control_socket_that_was_removed_is_made_again(make_service: MakeService) -> None:
    service = make_service().start()
    for _ in range(2):
        service.control.unlink()
        wait_until(service.control.exists, "it is there again")
        assert service.clusterctl("status").returncode == 0
    service.wait_for_line(f"warning: the control socket {service.control} was removed: it is there again")
    assert service.clusterctl("upgrade").returncode == 0, "the next program of the master serves on it too"
    service.wait_for_status("^Serving: 2 workers")
    service.control.unlink()
    wait_until(service.control.exists, "it is there again")
    assert service.stop() == 0
    assert not service.control.exists()
    assert "worker failed" not in service.log()


def test_what_is_in_the_place_of_the_control_socket_is_left_alone_and_said_once(make_service: MakeService) -> None:
    service = make_service().start()
    service.control.unlink()
    service.control.write_text("somebody else's")
    service.wait_for_line(f"error: {service.control} is not the control socket of this clusterd any more: remove it")
    assert service.ask().version == "1"
    service.control.unlink()
    service.wait_for_line("the control socket .* was removed: it is there again")
    assert service.clusterctl("status").returncode == 0
    assert service.log().count("is not the control socket") == 1


# ---- the service manager


def test_a_manager_whose_socket_is_gone_and_comes_back_is_told_again(make_service: MakeService, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    service = make_service(workers=1)
    service.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
    with listening(path) as manager:
        service.start()
        wait_until(lambda: b"READY=1" in manager.recv(4096), "it is ready")
    path.unlink()
    assert service.ask().version == "1"
    assert service.reload().returncode == 0
    with listening(path) as manager:
        wait_until(lambda: b"WATCHDOG=1" in manager.recv(4096), "it is alive")
        assert service.stop() == 0
    assert "Traceback" not in service.log()


def listening(path: Path) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(60)
    manager.bind(str(path))
    return manager


# ---- the configuration

ROOT_WITHOUT_POWER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
"""Root may read every file. This one may not."""


def _gone(config: Path) -> None:
    config.unlink()


def _closed(config: Path) -> None:
    config.chmod(0)


def _directory(config: Path) -> None:
    config.unlink()
    config.mkdir()


def _not_text(config: Path) -> None:
    config.write_bytes(b"\xff\xfe")


UNREADABLE = {
    "gone": (_gone, "there is no such file"),
    "closed": (_closed, "[Pp]ermission denied"),
    "directory": (_directory, "this is a directory"),
    "not text": (_not_text, "is not UTF-8"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_configuration_that_cannot_be_read_changes_nothing(make_service: MakeService, name: str) -> None:
    spoil, why = UNREADABLE[name]
    service = make_service()
    if os.geteuid() == 0:
        service.inside = ROOT_WITHOUT_POWER
    service.start()
    before = {worker["pid"] for worker in service.workers()}
    spoil(service.config)
    assert service.reload().returncode == 1
    service.wait_for_line(f"error: reload failed, generation 1 serves on: {service.config}.*{why}")
    os.kill(before.pop(), signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 2 workers")
    assert service.ask().version == "1"


# ---- the disk

STORES = """
def app(environ, start_response):
    size = len(environ["wsgi.input"].read())
    start_response("200 OK", [])
    return [b"%d" % size]
"""


@pytest.mark.parametrize("threads", [0, 2])
def test_a_body_for_which_the_disk_has_no_room_is_answered_507_and_harms_nothing_else(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(workers=1, threads=threads)
    service.deploy("1", STORES)
    disk = service.directory / "disk"
    disk.mkdir()
    service.environment = {"TMPDIR": str(disk)}
    service.inside = small_disk(disk)
    service.start()
    [worker] = service.workers()
    for _ in range(2):
        assert upload(service, 5_000_000).status_code == 507
        assert upload(service, 200_000).text == "200000"
    wait_until(lambda: not stored(worker["pid"], disk), "nothing of it is left")
    service.wait_for_line("error: a request's body cannot be stored: .*No space left on device")
    service.wait_for_line('error: request .* status=507 .*reason="the body cannot be stored"')
    assert [each["pid"] for each in service.workers()] == [worker["pid"]]


def small_disk(path: Path) -> tuple[str, ...]:
    """A command in whose mount namespace there is a small disk (mount_namespaces(7)). Skips where there can be none."""
    inside = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    mount = f"mount -t tmpfs -o size=1m tmpfs {path}"
    tried = subprocess.run([*inside, mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(tried.stderr, pytrace=False)
        pytest.skip(f"no file system can be mounted here: {tried.stderr}")
    return (*inside, f'{mount} && exec "$@"', "sh")


def stored(pid: int, disk: Path) -> list[str]:
    """The files on a disk that a process has open."""
    return [target for target in open_files(pid).values() if target.startswith(str(disk))]


def upload(service: Service, size: int) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"http://127.0.0.1:{service.port}/", data=b"x" * size, timeout=60)


# ---- the clock

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_OFFSET_FILE"), "re");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, time);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += offset();
    return status;
}
time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *result, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""
"""The clock of one service, an offset from the machine's (time namespaces have no CLOCK_REALTIME of their own)."""


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("change", [-3600, 3600], ids=["back", "forward"])
def test_a_clock_that_is_set_by_an_hour_changes_nothing(
    make_service: MakeService, clock: Path, tmp_path: Path, change: int
) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    service = make_service(timeouts={"hang": "2s", "drain": "20s", "keepalive": "60s"})
    service.environment = {"LD_PRELOAD": str(clock), "CLOCK_OFFSET_FILE": str(offset)}
    service.deploy("1", HELLO.replace("VERSION", "{int(__import__('time').time())}"))
    service.start()
    before = {worker["pid"] for worker in service.workers()}
    with loaded(service) as load:
        (tmp_path / "new").write_text(str(change))
        (tmp_path / "new").rename(offset)
        told = int(service.ask().version)
        assert abs(told - (time.time() + change)) < 600, "the service's clock is another one now"
        answered, began = load.answered, time.monotonic()
        # Longer than a hang is waited for.
        wait_until(lambda: time.monotonic() - began > 3 and load.answered > answered + 50, "it goes on")
        assert {worker["pid"] for worker in service.workers()} == before
        assert service.metrics("/readyz").status_code == 200
        assert all(0 <= worker["age"] < 3000 for worker in service.workers())
        assert service.reload().returncode == 0
        os.kill(service.ask().pid, signal.SIGKILL)
        service.wait_for_line("worker failed: SIGKILL")
        service.wait_for_status("^Serving: 2 workers, generation 2")
    assert [each for each in load.failures if "Reset" not in each and "ended after" not in each] == []
    assert service.stop() == 0
    assert "reason=hang" not in service.log()
    assert "Traceback" not in service.log()
