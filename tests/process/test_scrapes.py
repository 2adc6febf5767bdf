"""A real Prometheus scrapes a whole service, whatever becomes of its workers meanwhile."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.prometheus import prometheus
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

WORKERS = 9
"""More than fit into one slice of the page."""
KILLS = 20


def test_no_counter_goes_back_while_workers_die_and_are_replaced(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=WORKERS, restarts={"burst": 100, "per": "1s"}).start()
    with prometheus(tmp_path, [service.metrics_port]) as scraping:
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
