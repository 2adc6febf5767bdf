"""Workers that keep dying after they had been ready: restarted at once, within a limit."""

import re
import signal
from collections.abc import Callable

import pytest

from tests.process.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

FRAGILE = (
    HELLO
    + """
hello = app
def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/kill"):
        os.kill(os.getpid(), int(environ["QUERY_STRING"]))
    if environ["PATH_INFO"] == "/exit":
        os._exit(3)
    return hello(environ, start_response)
"""
)


def kill_by_request(service: Service, path: str) -> None:
    with pytest.raises(OSError):
        service.get(path)


@pytest.mark.parametrize("threads", [0, 2])
def test_workers_that_had_been_ready_are_restarted_at_once(make_service: MakeService, threads: int) -> None:
    service = make_service(threads=threads)
    service.deploy("1", FRAGILE)
    service.start()
    for number in range(15):
        kill_by_request(service, ("/exit", f"/kill?{signal.SIGSEGV:d}", f"/kill?{signal.SIGKILL:d}")[number % 3])
    wait_until(lambda: service.log().count("worker failed:") == 15, "every death is in the log")
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert "trying again in" not in service.log()


def test_beyond_the_limit_a_restart_waits_for_a_second_at_most(make_service: MakeService) -> None:
    service = make_service(restarts={"burst": 2, "per": "1h"})
    service.deploy("1", FRAGILE)
    service.start()
    for _ in range(4):
        kill_by_request(service, "/exit")
    service.wait_for_line("worker failed: exit status 3; trying again in ")
    pauses = [float(pause) for pause in re.findall(r"trying again in ([\d.]+) s", service.log())]
    assert all(pause <= 2.0 for pause in pauses), pauses
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert service.reload().returncode == 0
    before = service.log().count("trying again in")
    for _ in range(2):
        kill_by_request(service, "/exit")
    service.wait_for_status("^Serving: 2 workers, generation 2$")
    assert service.log().count("trying again in") == before
