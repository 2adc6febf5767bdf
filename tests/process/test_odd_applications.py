"""Applications that do to their process what is not theirs to do: the log says what, and others serve on."""

import os
import signal
from collections.abc import Callable

import pytest
import requests

from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

IN_A_REQUEST = (
    HELLO
    + """
import signal, sys
hello = app
def app(environ, start_response):
    if environ["PATH_INFO"] == "/odd":
        ODD
    return hello(environ, start_response)
"""
)
CLOSES = "import os\nos.closerange(3, 1000)\n"
LOST = r"descriptors that are clusterd's .* were closed: an application may close only what it has opened itself"


@pytest.mark.parametrize("preload", [True, False])
def test_an_import_that_closes_what_is_not_its_own_is_told_so(make_service: MakeService, *, preload: bool) -> None:
    service = make_service(preload=preload).start()
    service.deploy("2", CLOSES + HELLO)
    assert service.reload().returncode == 1
    service.wait_for_line(f"error: .* could not .*: .*{LOST}")
    assert service.ask().version == "1"
    service.deploy("3")
    assert service.reload().returncode == 0
    assert service.ask().version == "3"


def test_a_hook_that_closes_what_is_not_its_own_is_told_so(make_service: MakeService) -> None:
    service = make_service(worker_start="app:begin")
    service.deploy("1", HELLO + "def begin():\n    pass\n")
    service.start()
    service.deploy("2", HELLO + "def begin():\n    os.closerange(3, 1000)\n")
    assert service.reload().returncode == 1
    service.wait_for_line(f"error: the worker could not start: .*{LOST}")
    assert service.ask().version == "1"


def test_a_worker_may_close_what_the_import_has_opened(make_service: MakeService) -> None:
    service = make_service(worker_start="app:begin")
    service.deploy("1", "kept = open('/dev/null')\n" + HELLO + "def begin():\n    kept.close()\n")
    service.start()
    assert service.ask().version == "1"
    assert "error" not in service.log()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_request_that_closes_what_is_not_its_own_costs_its_worker(make_service: MakeService, threads: int) -> None:
    service = make_service(threads=threads, timeouts={"hang": "2s"})
    service.deploy("1", IN_A_REQUEST.replace("ODD", "os.closerange(3, 1000)"))
    service.start()
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            service.get("/odd")
    wait_until(lambda: service.log().count("worker failed: ") == 3, "each of its workers has died")
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert service.ask().version == "1"


@pytest.mark.parametrize("threads", [0, 2])
def test_an_exit_in_a_request_is_an_error_of_the_application(make_service: MakeService, threads: int) -> None:
    service = make_service(threads=threads)
    service.deploy("1", IN_A_REQUEST.replace("ODD", "sys.exit(3)"))
    service.start()
    before = {worker["pid"] for worker in service.workers()}
    assert [service.get("/odd").status_code for _ in range(4)] == [500] * 4
    service.wait_for_line("error: the application raised .* target=/odd")
    service.wait_for_line("SystemExit: 3")
    assert {worker["pid"] for worker in service.workers()} == before


HANDLERS = """
import signal
for each in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV}:
    try:
        signal.signal(each, lambda *_: None)
    except (OSError, ValueError):
        pass
"""
BLOCKS = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))\n"
OUTPUT = "import os\nos.closerange(0, 3)\n"
KINDS = {
    "handles every signal": HANDLERS + HELLO,
    "blocks every signal": BLOCKS + HELLO,
    "blocks every signal in requests": IN_A_REQUEST.replace("ODD", BLOCKS.splitlines()[1]),
    "closes its output": OUTPUT + HELLO,
}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("name", KINDS)
def test_it_is_replaced_reloaded_and_stopped_like_any_other(make_service: MakeService, name: str, threads: int) -> None:
    service = make_service(threads=threads, timeouts={"drain": "60s"})
    service.deploy("1", KINDS[name])
    service.start()
    assert service.get("/odd").status_code == 200
    killed = service.ask().pid
    os.kill(killed, signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    wait_until(lambda: killed not in [worker["pid"] for worker in service.workers()], "it has left")
    service.deploy("2", KINDS[name])
    assert service.reload().returncode == 0
    assert service.ask().version == "2"
    assert service.get("/odd").status_code == 200
    terminated = service.ask().pid
    os.kill(terminated, signal.SIGTERM)
    assert service.stop() == 0
    assert "reason=drain_timeout" not in service.log()
