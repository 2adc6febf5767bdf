"""The application's metrics as a real Prometheus sees them."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.process.test_application_metrics import SHOP, UNPACED, kill
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = [
    pytest.mark.engine_independent,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's package prometheus is not installed"),
]

DEATHS = 60
COUNTERS = ("shop_orders_total", "shop_seconds_bucket", "shop_seconds_count", "shop_seconds_sum", "shop_bytes_sum")
CONFIGURATION = """
global: {scrape_interval: 100ms, scrape_timeout: 100ms}
scrape_configs:
  - job_name: clusterd
    static_configs: [{targets: ["127.0.0.1:PORT"]}]
"""


class Prometheus:
    """A server that scrapes one service."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, query: str) -> list[dict[str, Any]]:
        """What a query returns; nothing before the server is ready."""
        try:
            answer = requests.get(
                f"http://127.0.0.1:{self._port}/api/v1/query", {"query": query}, timeout=PATIENCE_SECONDS
            )
        except requests.ConnectionError:
            return []
        return list(answer.json()["data"]["result"]) if answer.ok else []

    def number(self, query: str) -> float:
        """The one number that a query returns; -1 if there is none."""
        found = self.query(query)
        return float(found[0]["value"][1]) if found else -1


@contextmanager
def scraping(service: Service, directory: Path) -> Iterator[Prometheus]:
    port = free_port()
    file = directory / "prometheus.yml"
    file.write_text(CONFIGURATION.replace("PORT", str(service.metrics_port)))
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        cwd=directory,
    )
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait()


def test_no_counter_is_reset_by_deaths_and_reloads(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service(restarts=UNPACED)
    service.deploy("1", SHOP)
    service.start()
    with scraping(service, tmp_path) as prometheus:
        wait_until(lambda: prometheus.number("up") == 1, "the first scrape")
        ordered = 0
        for number in range(DEATHS):
            for _ in range(5):
                service.get("/order")
                ordered += 1
            kill(service, 1 + number % 2)
            if number % 20 == 10:
                assert service.reload().returncode == 0
        wait_until(lambda: prometheus.number("sum(shop_orders_total)") == ordered, "every order")
        for name in COUNTERS:
            assert prometheus.number(f"count({name})") >= 2
            assert prometheus.number(f"sum(resets({name}[30m]))") == 0
        assert prometheus.number('sum(shop_imported_total{worker="template"})') == 7
