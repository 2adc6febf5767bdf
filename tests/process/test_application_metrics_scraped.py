"""The application's metrics as a real Prometheus sees them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.process.test_application_metrics import SHOP, UNPACED, kill
from tests.support.prometheus import Prometheus, prometheus
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

DEATHS = 60
COUNTERS = ("shop_orders_total", "shop_seconds_bucket", "shop_seconds_count", "shop_seconds_sum", "shop_bytes_sum")


def is_scraped(scraping: Prometheus, name: str) -> bool:
    return (scraping.value(f"count({name})") or 0) >= 2


def test_no_counter_is_reset_by_deaths_and_reloads(make_service: Callable[..., Service], tmp_path: Path) -> None:
    service = make_service(restarts=UNPACED)
    service.deploy("1", SHOP)
    service.start()
    with prometheus(tmp_path, [service.metrics_port]) as scraping:
        ordered = 0
        for number in range(DEATHS):
            for _ in range(5):
                service.get("/order")
                ordered += 1
            kill(service, 1 + number % 2)
            if number % 20 == 10:
                assert service.reload().returncode == 0
        wait_until(lambda: scraping.value("sum(shop_orders_total)") == ordered, "every order")
        for name in COUNTERS:
            # A scrape that took too long, as on a busy machine, has no series.
            wait_until(partial(is_scraped, scraping, name), "one of each process")
            assert scraping.value(f"sum(resets({name}[30m]))") == 0
        imported = 'sum(shop_imported_total{worker="template"})'
        wait_until(lambda: scraping.value(imported) == 7, "what the import has counted, once")
