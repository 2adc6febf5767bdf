"""Workers and templates that die, hang, leak or loop."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.service import HELLO, Service, wait_until
from tests.support.templates import kill_template, titled

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


def test_a_killed_worker_is_replaced_from_the_template_even_with_broken_code_on_disk(
    make_service: MakeService,
) -> None:
    service = make_service().start()
    service.deploy("2", "def broken(:\n")
    victim = service.workers()[0]
    os.kill(victim["pid"], signal.SIGKILL)
    service.wait_for_line(f"worker failed: SIGKILL.*pid={victim['pid']}")
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    replacement = service.workers()[0]
    assert (replacement["slot"], replacement["generation"]) == (victim["slot"], 1)
    assert replacement["pid"] != victim["pid"]
    assert service.ask().version == "1"
    restarts = 'clusterd_worker_restarts_total{asked="no",reason="signal",worker="1"} 1.0'
    assert restarts in service.metrics().text


def test_without_preload_the_rest_serves_on_and_recovers_after_the_fix(make_service: MakeService) -> None:
    service = make_service(preload=False).start()
    service.deploy("2", "raise RuntimeError('broken deploy')\n")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    service.wait_for_line("trying again in")
    service.wait_for_line("trying again in", after=len(service.lines))
    assert service.ask().version == "1"
    assert service.log().count("raise RuntimeError('broken deploy')") == 1
    service.deploy("3")
    service.wait_for_status("^Serving: 2 workers, generation 1$")


def test_a_dead_template_is_replaced_by_its_spare(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    before = service.workers()[0]["pid"]
    service.deploy("2", "def broken(:\n")
    for _ in range(3):
        kill_template(service)
    assert service.workers()[0]["pid"] == before
    os.kill(before, signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 1 worker, generation 1$")
    assert service.ask().version == "1"


def test_a_spare_is_called_one_in_every_generation(make_service: MakeService) -> None:
    """The end of a reload sets the log level of every process, and a spare is no template for that."""
    service = make_service(workers=1).start()
    assert service.reload().returncode == 0
    [spare] = wait_until(lambda: titled(service, "spare gen 2"), "there is a spare")
    before = switches(spare)
    assert service.clusterctl("log-level", "debug").returncode == 0
    wait_until(lambda: switches(spare) > before, "the spare has heard of it")
    assert titled(service, "spare gen 2") == [spare]
    assert len(titled(service, "template gen 2")) == 1


def switches(pid: int) -> int:
    """How often a process has had to wait: once more, and it has dealt with what it was told."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_default_timeout_of_the_application_ends_no_template(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", f"import socket\nsocket.setdefaulttimeout(0.01)\n{HELLO}")
    service.start()
    for _ in range(2):
        kill_template(service)
    assert "spare template died" not in service.log()
    assert service.ask().version == "1"


HANG = """
import os, threading, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        hang_for_ever()
    start_response("200 OK", [])
    return [f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} 1".encode()]
def hang_for_ever():
    threading.Event().wait()
"""


@pytest.mark.parametrize("threads", [0, 1])
def test_a_hung_worker_is_shown_then_killed_and_replaced(make_service: MakeService, threads: int) -> None:
    service = make_service(workers=1, threads=threads, timeouts={"hang": "2s"})
    service.deploy("1", HANG)
    service.start()
    hung = service.workers()[0]["pid"]
    with pytest.raises(OSError):
        service.get("/hang")
    service.wait_for_line("hang_for_ever")
    line = service.wait_for_line("worker failed: .* for 2")
    assert "reason=hang" in line
    assert f"pid={hung}" in line
    service.wait_for_status("^Serving: 1 worker, generation 1$")
    assert service.ask().pid != hung


def test_a_stopped_master_does_not_take_its_own_pause_for_a_hang(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"hang": "1s"}).start()
    before = service.workers()[0]["pid"]
    os.kill(service.pid, signal.SIGSTOP)
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: state(service.pid) == "T" and state(before) == "T", "both are stopped")
    paused = os.times().elapsed
    wait_until(lambda: os.times().elapsed - paused > 1.5, "the pause is longer than the hang timeout")
    os.kill(before, signal.SIGCONT)
    os.kill(service.pid, signal.SIGCONT)
    assert service.ask().pid == before
    assert service.reload().returncode == 0
    assert "reason=hang" not in service.log()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_crash_leaves_its_stacks_in_the_log(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=0)
    service.deploy(
        "1",
        HELLO + "import signal\nhello = app\ndef app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/crash':\n        signal.raise_signal(signal.SIGSEGV)\n"
        "    return hello(environ, start_response)\n",
    )
    service.start()
    with pytest.raises(OSError):
        service.get("/crash")
    service.wait_for_line("worker failed: SIGSEGV")
    assert "Fatal Python error: Segmentation fault" in service.log()
    assert service.ask().slot == 1


def test_a_long_import_is_no_hang(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"hang": "1s"})
    service.deploy("1", "import time\ntime.sleep(3)\n" + HELLO)
    service.start()
    assert service.ask().version == "1"
    assert "reason=hang" not in service.log()


def test_max_requests_recycles_successor_first(make_service: MakeService) -> None:
    service = make_service(workers=1, limits={"max_requests": 20}).start()
    first = service.workers()[0]["pid"]
    seen = {service.ask().pid for _ in range(30)}
    wait_until(lambda: {w["pid"] for w in service.workers()} - {first}, "a successor takes over")
    assert seen
    assert service.ask().pid != first
    service.wait_for_line("reason=max_requests")


GROWS = """
import os
KEPT = []
def app(environ, start_response):
    if environ["PATH_INFO"] == "/grow":
        KEPT.append(os.urandom(100 << 20))
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]
"""


def test_a_worker_that_outgrew_max_memory_is_recycled_successor_first(make_service: MakeService) -> None:
    service = make_service(workers=1, limits={"max_memory": "64M"})
    service.deploy("1", GROWS)
    service.start()
    first = int(service.get().text)
    # The next look comes after it has grown, and not while it does.
    wait_until(lambda: "clusterd_worker_private_memory_bytes{" in service.metrics().text, "its memory was looked at")
    assert int(service.get("/grow").text) == first
    line = service.wait_for_line("reason=max_memory")
    assert f"pid={first}" in line
    ended = service.wait_for_line("worker ended: .*reason=max_memory")
    assert "MiB of private memory, and limits.max_memory allows 64.0 MiB (exit status 0)" in ended
    found, allowed = re.search(  # type: ignore[union-attr]
        r"a worker has (\d+\.\d) MiB of private memory, and limits.max_memory allows (\d+\.\d) MiB", service.log()
    ).groups()
    assert float(found) > 100
    assert float(allowed) == 64
    wait_until(lambda: int(service.get().text) != first, "a successor answers")
    wait_until(lambda: not Path(f"/proc/{first}").exists(), "the one that had grown is gone")
    assert "error" not in service.log()


def test_thread_at_import_means_no_preload_and_is_named(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy(
        "1",
        HELLO
        + "import threading\nthreading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n",
    )
    service.start()
    assert "thread 'poller' is running" in service.log()
    assert service.ask().version == "1"


def test_dead_worker_counts_stay(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    for _ in range(5):
        service.ask()
    counted = 'clusterd_http_requests_total{code="2xx",worker="1"} 5.0'
    wait_until(lambda: counted in service.metrics().text, "all are counted, which comes after the answer")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 1 worker")
    service.ask()
    counted = 'clusterd_http_requests_total{code="2xx",worker="1"} 6.0'
    wait_until(lambda: counted in service.metrics().text, "the one after it is counted too")
    assert service.metrics("/healthz").status_code == 200
    assert service.metrics("/readyz").status_code == 200


def test_metrics_are_whole_while_every_worker_is_stopped(make_service: MakeService) -> None:
    service = make_service(workers=2).start()
    for worker in service.workers():
        os.kill(worker["pid"], signal.SIGSTOP)
    text = service.metrics().text
    assert 'clusterd_worker_up{worker="1"} 1.0' in text
    assert 'clusterd_worker_up{worker="2"} 1.0' in text
    for worker in service.workers():
        os.kill(worker["pid"], signal.SIGCONT)


def test_a_thread_that_does_not_answer_in_time_has_its_worker_replaced(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=4, timeouts={"request": "500ms", "drain": "1s", "drain_idle": "1s"})
    service.deploy(
        "1",
        "import threading\n"
        + HELLO.replace("    body", "    if environ['PATH_INFO'] == '/stuck': never()\n    body", 1)
        + "def never():\n    threading.Event().wait()\n",
    )
    service.start()
    first = service.workers()[0]["pid"]
    assert service.get("/stuck").status_code == 504
    service.wait_for_line("worker: GET /stuck is overdue")
    service.wait_for_line(r"in never")
    wait_until(lambda: {w["pid"] for w in service.workers()} - {first}, "a successor takes over")
    assert service.ask().pid != first
    service.wait_for_line("reason=request_timeout")


def test_no_time_is_over_before_its_end(make_service: MakeService) -> None:
    """They are looked at a few times a second: that may make them later, and never earlier."""
    service = make_service(workers=1, threads=8, timeouts={"request": "600ms", "header": "600ms"})
    service.deploy("1", "import time\n" + HELLO.replace("    body", "    time.sleep(0.45)\n    body", 1))
    service.start()

    def ask(number: int) -> int:
        time.sleep(number * 0.05)
        return service.get().status_code

    def half_a_head(number: int) -> float:
        time.sleep(number * 0.05)
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
            client.sendall(b"GET / HT")
            began = time.monotonic()
            assert client.recv(1000).startswith(b"HTTP/1.1 408")
            return time.monotonic() - began

    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(ask, range(8))
        waits = pool.map(half_a_head, range(8))
        assert set(answers) == {200}
        assert min(waits) > 0.59
