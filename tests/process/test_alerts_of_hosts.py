"""The alerts of several hosts fire in a real Prometheus that watches three services as three hosts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.alerting import ALERTS, OF_HOSTS, RULES, asked, hurried, shipped_alerts
from tests.support.controlling import done
from tests.support.ports import free_port
from tests.support.prometheus import prometheus
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

TAKES = """
import time
def app(environ, start_response):
    time.sleep(SECONDS)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def test_a_host_that_is_slow_drained_and_of_another_release(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    services = [make_service(workers=1) for _ in range(3)]
    ports = [free_port() for _ in services]
    rules = [hurried(each, tmp_path) for each in (RULES, ALERTS)]
    with prometheus(tmp_path, ports, rules, interval="250ms") as watching:
        for service, port in zip(services, ports, strict=True):
            service.metrics_port = port
            service.configure()
            service.deploy("1", TAKES.replace("SECONDS", "0.02" if service is services[0] else "0.01"))
            service.start()
        (odd, *others) = services
        names = {each["alert"] for each in shipped_alerts(OF_HOSTS)}
        with asked(others[0], "/"), asked(others[1], "/"), asked(odd, "/"):
            wait_until(lambda: watching.query("clusterd:http_request_duration_seconds:median_of_hosts"), "it is known")
            odd.deploy("1", TAKES.replace("SECONDS", "0.5"))
            assert odd.reload().returncode == 0
            done(odd, "drain")
            wait_until(lambda: names <= watching.firing(), f"{names} fire")
            slow = watching.query('ALERTS{alertstate="firing", alertname="ClusterdHostSlow"}')
            assert [each["metric"]["instance"] for each in slow] == [f"127.0.0.1:{ports[0]}"]
