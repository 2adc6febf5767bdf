"""The application's metrics as a real Prometheus sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.test_application_metrics import SHOP, UNPACED, kill
from tests.support.prometheus import prometheus
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

DEATHS = 60
COUNTERS = ("shop_orders_total", "shop_seconds_bucket", "shop_seconds_count", "shop_seconds_sum", "shop_bytes_sum")


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
            assert (scraping.value(f"count({name})") or 0) >= 2
            assert scraping.value(f"sum(resets({name}[30m]))") == 0
        assert scraping.value('sum(shop_imported_total{worker="template"})') == 7
