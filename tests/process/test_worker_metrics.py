"""What the metrics tell of a worker while it is busy, blocked, replaced or gone."""

import resource
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from tests.support.counted import Scraper
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]

WAITS = """
import os, time
def app(environ, start_response):
    while environ["PATH_INFO"] == "/wait" and not os.path.exists(GO_ON):
        time.sleep(0.005)
    start_response("200 OK", [])
    return [b"ok"]
"""


def scraper_of(service: Service) -> Scraper:
    return Scraper(f"http://127.0.0.1:{service.metrics_port}/metrics")


@pytest.fixture
def go_on(tmp_path: Path) -> Path:
    """The application goes on when this file exists."""
    return tmp_path / "go on"


def waiting(service: Service, clients: ExitStack, count: int) -> None:
    """Have requests of the service wait, and wait for their answers at the end of `clients`."""
    for _ in range(count):
        thread = Thread(target=service.get, args=("/wait",))
        thread.start()
        clients.callback(thread.join)


def test_a_request_is_in_flight_while_it_blocks_the_event_loop(make_service: MakeService, go_on: Path) -> None:
    service = make_service(workers=1, threads=0)
    service.deploy("1", f"GO_ON = {str(go_on)!r}\n{WAITS}")
    service.start()
    scraper = scraper_of(service)
    with ExitStack() as clients:
        clients.callback(go_on.touch)
        waiting(service, clients, 1)
        wait_until(lambda: scraper.total("clusterd_worker_heartbeat_age_seconds") > 0.6, "the loop is blocked")
        assert scraper.total("clusterd_http_requests_in_flight") == 1
        assert scraper.total("clusterd_worker_progress_age_seconds") > 0.3
        go_on.touch()
        wait_until(lambda: not scraper.total("clusterd_http_requests_in_flight"), "it is answered")
        late = "clusterd_event_loop_lag_seconds"
        wait_until(
            lambda: scraper.total(f"{late}_count") > scraper.total(f"{late}_bucket", le="0.25"), "the lag is counted"
        )
    assert scraper.faults == []


def test_saturation_needs_no_numbers_from_elsewhere(make_service: MakeService, go_on: Path) -> None:
    service = make_service(workers=1, threads=2, limits={"queue": 7, "connections": 50})
    service.deploy("1", f"GO_ON = {str(go_on)!r}\n{WAITS}")
    service.start()
    scraper = scraper_of(service)
    with ExitStack() as clients:
        clients.callback(go_on.touch)
        waiting(service, clients, 3)
        wait_until(lambda: scraper.total("clusterd_http_requests_in_flight") == 3, "three are there")
        go_on_with = {
            name: scraper.total(f"clusterd_http_{name}")
            for name in ("threads", "threads_busy", "queue_length", "queue_limit", "connections", "connections_limit")
        }
        go_on.touch()
    assert go_on_with == {
        "threads": 2,
        "threads_busy": 2,
        "queue_length": 1,
        "queue_limit": 7,
        "connections": 3,
        "connections_limit": 50,
    }
    assert scraper.total("clusterd_worker_max_fds") == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wait_until(lambda: scraper.total("clusterd_http_queue_seconds_count") == 3, "the waits are published")
    assert scraper.total("clusterd_http_received_bytes_total") > 3 * len("GET /wait HTTP/1.1")
    assert scraper.total("clusterd_http_sent_bytes_total") > 3 * len("HTTP/1.1 200 OK")


def test_a_slot_scaled_away_is_not_down_and_keeps_its_counts(make_service: MakeService) -> None:
    service = make_service(workers=2).start()
    scraper = scraper_of(service)
    assert scraper.total("clusterd_worker_up") == 2
    assert service.clusterctl("scale", "1").returncode == 0

    def has_gauges() -> bool:
        return any(("worker", "2") in labels and name == "clusterd_http_threads" for name, labels in scraper.read())

    wait_until(lambda: not has_gauges(), "the slot has gone")
    found = scraper.read()
    assert ("clusterd_worker_up", (("worker", "2"),)) not in found
    assert ("clusterd_http_requests_total", (("code", "2xx"), ("worker", "2"))) in found
    assert scraper.total("clusterd_worker_restarts_total", reason="scale", asked="yes", worker="2") == 1
    assert scraper.faults == []


def test_the_candidate_of_a_withdrawn_rollout_is_no_restart_of_its_slot(make_service: MakeService) -> None:
    service = make_service(preload=False).start()
    service.deploy("2", "raise RuntimeError('broken deploy')\n")
    assert service.reload().returncode != 0
    scraper = scraper_of(service)
    assert scraper.total("clusterd_rollouts_total", result="failed") == 1
    assert scraper.total("clusterd_worker_restarts_total", asked="no") == 0
