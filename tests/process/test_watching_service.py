"""`clusterd --watch` as a service: what changes is rolled out, and what is wrong is said."""

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.support.processes import open_files
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

LIMIT = 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$0" "$@"'
FEW_WATCHES = ("unshare", "--user", "--map-root-user", "sh", "-c", LIMIT)
"""A user namespace has limits of its own (namespaces(7))."""


def watching(service: Service) -> Service:
    service.flags = ("--watch", str(service.directory))
    return service.start()


def wait_for_version(service: Service, version: str) -> None:
    """A worker that was just asked to drain may still answer somebody who was there before."""
    wait_until(lambda: service.ask().version == version, f"version {version} is served")


def test_a_change_is_rolled_out(make_service: MakeService) -> None:
    service = watching(make_service())
    for generation, version in ((2, "two"), (3, "three")):
        service.deploy(version)
        service.wait_for_line(f"reload succeeded, generation {generation} serves")
        wait_for_version(service, version)
    assert sum("app.py has changed: reloading" in line for line in service.lines) == 2
    assert service.stop() == 0


def test_a_syntax_error_is_shown_and_the_old_code_serves_on(make_service: MakeService) -> None:
    service = watching(make_service())
    service.deploy("broken", "def app(environ, start_response)\n    pass\n")
    service.wait_for_line("reload failed, generation 1 serves on: .*SyntaxError")
    assert "def app(environ, start_response)" in service.log()
    assert service.ask().version == "1"
    service.deploy("mended")
    service.wait_for_line("reload succeeded")
    wait_for_version(service, "mended")


def test_the_configuration_is_a_file_like_any_other(make_service: MakeService) -> None:
    service = watching(make_service(workers=1))
    service.configure(workers=2)
    service.wait_for_line(r"clusterd.yaml has changed: reloading")
    service.wait_for_status("^Serving: 2 workers")


def test_the_configuration_is_watched_with_whatever_else_is(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.flags = ("--watch", str(service.application))
    service.start()
    service.configure(workers=2)
    service.wait_for_line(r"clusterd.yaml has changed: reloading")
    service.wait_for_status("^Serving: 2 workers")


def test_an_application_that_writes_what_is_watched_is_found_out(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", f"open({str(service.directory / 'made.json')!r}, 'w').close()\n{HELLO}")
    service.flags = ("--watch", str(service.directory))
    service.start(wait=False)  # It may never be seen to serve, as it reloads all the time.
    service.wait_for_line("warning: made.json has changed 5 times in a row: .*reloads for ever")


def test_what_changes_during_the_start_is_reloaded(make_service: MakeService) -> None:
    service = make_service(workers=1)
    go = service.directory.parent / "go"
    os.mkfifo(go)
    service.deploy("1", f"open({str(go)!r}).close()\n{HELLO}")
    service.flags = ("--watch", str(service.directory))
    service.start(wait=False)

    def importing() -> int | None:
        try:
            return os.open(go, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None  # nobody reads it yet

    going = wait_until(importing, "the template imports")
    service.deploy("2")
    os.close(going)
    service.wait_for_line("reload succeeded, generation 2 serves")
    wait_for_version(service, "2")


def test_a_path_that_is_not_there_ends_the_start(make_service: MakeService) -> None:
    service = make_service()
    service.flags = ("--watch", str(service.directory / "nothing"))
    service.start(wait=False)
    assert service.wait() == 78
    assert "nothing: No such file or directory" in service.log()


def test_more_directories_than_the_kernel_watches_end_the_start(make_service: MakeService) -> None:
    if subprocess.run([*FEW_WATCHES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces are not permitted here")
    service = make_service()
    for number in range(5):
        (service.directory / str(number)).mkdir()
    service.inside = FEW_WATCHES
    service.flags = ("--watch", str(service.directory))
    service.start(wait=False)
    assert service.wait() == 78
    assert "fs.inotify.max_user_watches" in service.log()


def test_nobody_inherits_the_watches(make_service: MakeService) -> None:
    service = watching(make_service())
    for worker in service.workers():
        assert "anon_inode:inotify" not in open_files(worker["pid"]).values()
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
