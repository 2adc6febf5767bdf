"""Each alert that is shipped fires in a real Prometheus at a service that is ill, and the commands that the runbook
names for it show then what it says. Each query of the dashboard returns data.
"""

import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.process.test_readiness import stopped
from tests.support.alerting import (
    ALERTS,
    BLOCKS,
    ILL,
    OF_A_SERVICE,
    RULES,
    Watched,
    asked,
    hurried,
    lose,
    said,
    shipped_alerts,
    shipped_queries,
)
from tests.support.certificates import make_certificate
from tests.support.control_groups import put_into
from tests.support.ports import free_port
from tests.support.processes import open_files
from tests.support.prometheus import Prometheus, prometheus
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

Watch = Callable[..., Watched]
Test = Callable[..., None]

FIRED: dict[str, frozenset[str]] = {}
"""The alerts that each test makes fire."""


def fires(*alerts: str) -> Callable[[Test], Test]:
    """Say which alerts a test makes fire. It fails if they have not."""

    def note(test: Test) -> Test:
        FIRED[test.__name__] = frozenset(alerts)
        return test

    return note


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """Where the services of this module are scraped, one for each test of a service."""
    return [free_port() for _ in range(len(FIRED) + 1)]


@pytest.fixture(scope="module")
def scraping(tmp_path_factory: pytest.TempPathFactory, ports: list[int]) -> Iterator[Prometheus]:
    """Prometheus with the rules that are shipped, in a hurry."""
    directory = tmp_path_factory.mktemp("prometheus")
    rules = [hurried(each, directory) for each in (RULES, ALERTS)]
    # Not more often: each scrape that fails on a busy machine has the patience of the alerts (`for:`) begin anew.
    with prometheus(directory, ports, rules, interval="250ms") as started:
        yield started


@pytest.fixture
def watch(
    request: pytest.FixtureRequest, make_service: Callable[..., Service], scraping: Prometheus, ports: list[int]
) -> Iterator[Watch]:
    """Make the service of a test, which Prometheus watches."""
    made: list[Watched] = []

    def make(source: str = ILL, **settings: object) -> Watched:
        service = make_service(**{"workers": 1, **settings})
        service.metrics_port = ports.pop()
        service.configure()
        service.deploy("1", source)
        made.append(Watched(service, scraping))
        return made[-1]

    yield make
    assert [each.seen for each in made] == [FIRED.get(request.function.__name__, frozenset())]


def test_every_alert_is_made_to_fire() -> None:
    assert frozenset().union(*FIRED.values()) == {each["alert"] for each in shipped_alerts(OF_A_SERVICE)}


@fires("ClusterdCrashLoop", "ClusterdRequestsLost", "ClusterdReloadFailed", "ClusterdDown")
def test_deaths_a_bad_deploy_and_a_master_that_has_gone(watch: Watch) -> None:
    watched = watch(threads=2, restarts={"burst": 1000, "per": "1s"})
    service = watched.start()
    watched.wait_for("ClusterdCrashLoop", "ClusterdRequestsLost", again=lambda: lose(service, "/dies"))
    events = said(service, "events")
    assert re.search(r'exit slot=1 .* cause=signal lost=1 requests="GET /dies \(', events)
    assert re.search(r'suspect request="GET /dies" deaths=3 ', events)
    service.wait_for_line("request lost with its worker method=GET target=/dies .* reason=signal")

    service.deploy("2", "import missing_module")
    assert "No module named 'missing_module'" in said(service, "reload")
    watched.wait_for("ClusterdReloadFailed")
    assert "reload FAILED at " in said(service, "status")
    service.deploy("3", ILL)
    assert service.reload().returncode == 0
    watched.wait_for_end("ClusterdReloadFailed")

    service.stop()
    watched.wait_for("ClusterdDown")


@fires("ClusterdNoReadyWorker")
def test_workers_that_do_not_start(watch: Watch) -> None:
    down = "import os\nif os.path.exists(__file__ + '.down'):\n    raise RuntimeError('the database is down')\n"
    watched = watch(down + HELLO, workers=2, preload=False)
    service = watched.start()
    mark = Path(f"{service.application}.down")
    mark.touch()
    for worker in service.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    watched.wait_for("ClusterdNoReadyWorker")
    causes = [re.compile(rf"slot {slot}: .*failed \d+ times?: .*the database is down") for slot in (1, 2)]
    wait_until(lambda: causes[0].search(said(service, "status")), "the status has the cause of the first")
    wait_until(lambda: causes[1].search(said(service, "status")), "the status has the cause of the second")
    assert "[-]workers: no worker is ready\n" in service.metrics("/readyz?verbose").text
    mark.unlink()
    watched.wait_for_end("ClusterdNoReadyWorker")


@fires("ClusterdWorkerHangs")
def test_a_worker_that_hangs(watch: Watch) -> None:
    watched = watch(threads=1, timeouts={"hang": "1s"})
    service = watched.start()
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(lose, service, "/hangs")
        wait_until(lambda: "which runs GET /hangs" in str(service.ask_to("stacks", slot=1)), "its thread is shown")
        lost.result()
    watched.wait_for("ClusterdWorkerHangs")
    service.wait_for_line("Thread .*, which runs GET /hangs")
    service.wait_for_line("request lost with its worker method=GET target=/hangs .* reason=hang")


@fires("ClusterdQueueFilling", "ClusterdRefusing", "ClusterdRolloutStuck")
def test_a_queue_that_is_full_and_a_rollout_that_waits(watch: Watch) -> None:
    watched = watch(threads=1, limits={"queue": 2}, worker_start="app:begin")
    service = watched.start()
    (service.directory / "hold").touch()
    with ThreadPoolExecutor(4) as pool:
        try:
            reload = pool.submit(service.reload)
            waiting = [pool.submit(service.get, "/waits") for _ in range(3)]
            watched.wait_for("ClusterdQueueFilling")
            stacks = said(service, "stacks", "all")
            assert "in wait_for_the_end" in stacks
            assert stacks.count("GET /waits (queued") == 2
            watched.wait_for("ClusterdRefusing", again=lambda: service.get("/refused"))
            service.wait_for_line('target=/refused status=503 .* reason="too many requests wait: limits.queue"')
            watched.wait_for("ClusterdRolloutStuck")
            status = said(service, "status")
            assert re.search(r"^Reloading: generation 2, 0 of 1 workers replaced", status)
            assert re.search(r"^ +1 +2 +\d+ +booting ", status, re.MULTILINE), status
        finally:
            (service.directory / "hold").unlink()
            (service.directory / "go_on").touch()
        assert reload.result().returncode == 0
        assert [each.result().status_code for each in waiting] == [200, 200, 200]


@fires("ClusterdEventLoopLag", "ClusterdBacklogFilling")
def test_a_loop_that_is_late_and_a_backlog_that_nobody_takes(watch: Watch, tmp_path: Path) -> None:
    watched, path = watch(BLOCKS, timeouts={"stall": "500ms"}), str(tmp_path / "http.sock")
    service = watched.service
    service.configure(listen=[f"127.0.0.1:{service.port}", f"unix:{path}"])
    watched.start()
    with asked(service, "/?1.2"):
        watched.wait_for("ClusterdEventLoopLag")
        wait_until(lambda: " in block\n" in said(service, "stacks", "all"), "what blocks is shown")
    service.wait_for_line("an event loop has not turned for ")
    service.wait_for_line(" in block$")

    limit = min(2048, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    with ExitStack() as opened, stopped([worker["pid"] for worker in service.workers()]):
        for _ in range(limit * 5 // 8):
            opened.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        watched.wait_for("ClusterdBacklogFilling")


@fires("ClusterdDescriptors")
def test_a_worker_that_keeps_its_files_open(watch: Watch) -> None:
    watched = watch(threads=1)
    watched.service.inside = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    service = watched.start()
    assert service.get("/opens?180").status_code == 200
    watched.wait_for("ClusterdDescriptors")
    [worker] = service.workers()
    opened = [*open_files(worker["pid"]).values()]
    assert opened.count(str(service.directory / "leaking")) == 180
    assert service.get("/opens?100").status_code == 500
    service.wait_for_line("Too many open files")


@fires("ClusterdMemory", "ClusterdMemoryKill")
def test_a_worker_that_takes_the_memory(little_memory: Path, watch: Watch) -> None:
    watched = watch(threads=2)
    put_into(little_memory, watched.service)
    service = watched.start()

    def group(what: str) -> int:
        [found] = re.findall(rf"^clusterd_cgroup_memory_{what} (\S+)$", service.metrics().text, re.MULTILINE)
        return int(float(found))

    limit, before = group("limit_bytes"), group("bytes")
    service.get("/reads")
    assert group("bytes") < before + limit // 5, "the files that it has read are no want of memory"
    assert service.get(f"/grows?{limit * 94 // 100 - group('bytes')}").status_code == 200
    watched.wait_for("ClusterdMemory")
    [memory] = re.findall(r" (\d+)M$", said(service, "status"), re.MULTILINE)
    assert int(memory) << 20 > limit // 2
    lose(service, f"/grows?{limit}")
    watched.wait_for("ClusterdMemoryKill")
    service.wait_for_line("worker failed: SIGKILL by the kernel, for want of memory .*reason=oom")
    service.wait_for_line("request lost with its worker method=GET target=/grows .* reason=memory")
    assert "cause=memory" in said(service, "events")


@fires("ClusterdErrors", "ClusterdSlow")
def test_errors_and_slow_requests(watch: Watch) -> None:
    watched = watch(threads=4, log={"access": "errors"})
    service = watched.start()
    with asked(service, "/fails"):
        watched.wait_for("ClusterdErrors")
    service.wait_for_line("error: the application raised .* target=/fails")
    service.wait_for_line("error: request .* target=/fails status=500")

    service.configure(log={"access": "errors", "slow": "1s"})
    assert service.reload().returncode == 0
    with asked(service, "/slow", "/slow", "/slow"):
        watched.wait_for("ClusterdSlow")
    service.wait_for_line("a request is slow, most recent call last: .* target=/slow")
    service.wait_for_line(r"a slow request has ended .* target=/slow .* queue=\S+ application=1\.\S+ client=\S+")


@fires("ClusterdCertificateExpires")
def test_a_certificate_that_expires(watch: Watch, tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(days=13)
    served, renewed = make_certificate(tmp_path / "served", ends=soon), make_certificate(tmp_path / "renewed")
    watched = watch(tls={"listen": [f"127.0.0.1:{free_port()}"], "certificate": str(served.combined)})
    service = watched.service.start()
    watched.wait_for("ClusterdCertificateExpires")
    shutil.copy(renewed.combined, served.combined)
    assert service.reload().returncode == 0
    watched.wait_for_end("ClusterdCertificateExpires")


@fires("ClusterdLogRecordsDropped")
def test_a_log_that_nobody_reads(watch: Watch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        watched = watch()
        watched.service.inside = ("sh", "-c", f'exec "$@" 2> {log}', "sh")
        service = watched.start()
        watched.wait_for("ClusterdLogRecordsDropped", again=lambda: service.get("/fails?100000"))
        assert service.clusterctl("log-level", "warning").returncode == 0
        assert service.clusterctl("log", "access", "off").returncode == 0
    finally:
        os.close(reader)


def test_every_query_of_the_dashboard_returns_data(little_memory: Path, watch: Watch, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    tls = {"listen": [f"127.0.0.1:{free_port()}"], "certificate": str(certificate.combined)}
    watched = watch(threads=2, tls=tls, agent=f"127.0.0.1:{free_port()}")
    put_into(little_memory, watched.service)
    # A kernel may have been told not to measure pressure (psi=0).
    told = [each for each in shipped_queries() if "_waiting_seconds" not in each or Path("/proc/pressure").exists()]
    with asked(watched.start(), "/", "/fails"):
        wait_until(lambda: not watched.without_data(told), f"of {told} some return nothing")
