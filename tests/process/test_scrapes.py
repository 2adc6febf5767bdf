"""A real Prometheus scrapes a whole service, whatever becomes of its workers meanwhile."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.neighbours import needs, neighbour
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

CONFIGURATION = """
global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}
scrape_configs: [{{job_name: clusterd, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""
WORKERS = 9
"""More than fit into one slice of the page."""
KILLS = 20


class Prometheus:
    """A Prometheus, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.get(f"{self._address}{path}", params=parameters, timeout=PATIENCE_SECONDS)
            except requests.ConnectionError:
                return None
        return answer.json()["data"] if answer.ok else None

    def value(self, query: str) -> float | None:
        """The value of a query with one result; None if it has none."""
        answer = self.get("/api/v1/query", query=query)
        return float(answer["result"][0]["value"][1]) if answer and answer["result"] else None


@contextmanager
def prometheus(directory: Path, scraped: int) -> Iterator[Prometheus]:
    needs("prometheus", "prometheus")
    configuration, port = directory / "prometheus.yml", free_port()
    configuration.write_text(CONFIGURATION.format(port=scraped))
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={directory / 'data'}"]
    found = Prometheus(port)
    with neighbour([*command, f"--web.listen-address=127.0.0.1:{port}"], lambda: found.value("up") == 1):
        yield found


def test_no_counter_goes_back_while_workers_die_and_are_replaced(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=WORKERS, restarts={"burst": 100, "per": "1s"}).start()
    with prometheus(tmp_path, service.metrics_port) as scraping:
        for number in range(KILLS):
            for _ in range(10):
                service.get()
            os.kill(service.workers()[number % 3]["pid"], signal.SIGKILL)
            service.wait_for_status(f"^Serving: {WORKERS} workers")
        assert service.reload().returncode == 0
        total = KILLS * 10
        wait_until(lambda: scraping.value("sum(clusterd_http_requests_total)") == total, "every request is counted")
        assert scraping.value('sum(clusterd_worker_restarts_total{reason="signal"})') == KILLS

        counters = [
            each for each in scraping.get("/api/v1/label/__name__/values") if each.endswith(("_total", "_count"))
        ]
        assert "clusterd_worker_cpu_seconds_total" in counters
        went_back = {name for name in counters if scraping.value(f"sum(resets({name}[1h]))")}
        assert not went_back
        # One that takes longer than a tenth of a second counts as failed, and a sample that is refused too.
        [target] = scraping.get("/api/v1/targets")["activeTargets"]
        assert target["lastError"] == "" or "deadline exceeded" in target["lastError"]
