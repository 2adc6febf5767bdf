"""The rules, the alerts and the dashboard that the package ships, for Prometheus and Grafana."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.neighbours import ENVIRONMENT, needs
from tests.support.prometheus import Prometheus, prometheus
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "packaging/prometheus"
RULES, ALERTS = SHIPPED / "clusterd.rules.yml", SHIPPED / "clusterd.alerts.yml"
EXPECTATIONS = ROOT / "tests/support/prometheus_rules/clusterd.test.yml"
DASHBOARD = ROOT / "packaging/grafana/clusterd.json"

FAILS = """
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/fails":
        start_response("500 Internal Server Error", [])
        return [b""]
    if environ["PATH_INFO"] == "/waits":
        time.sleep(60)
    start_response("200 OK", [])
    return [b"ok"]
"""
CONDITIONAL = ("clusterd_cgroup_", "clusterd_tls_")
"""What there is only where the kernel tells it, or with TLS."""


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def promtool(*arguments: str | Path) -> None:
    needs("promtool", "prometheus")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=EXPECTATIONS.parent, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_valid() -> None:
    promtool("check", "config", SHIPPED / "prometheus.yml")
    promtool("check", "rules", RULES, ALERTS)


def test_alerts_fire_when_they_should_and_otherwise_not() -> None:
    promtool("test", "rules", EXPECTATIONS)
    names = {each["alert"] for each in alerts()}
    healthy, ill = yaml.safe_load(EXPECTATIONS.read_text())["tests"]
    assert {each["alertname"] for each in healthy["alert_rule_test"]} == names
    fired = ill["promql_expr_test"][0]["exp_samples"]
    assert {re.findall(r'alertname="(\w+)"', each["labels"])[0] for each in fired} == names


def test_every_alert_has_its_section_in_the_runbook() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for each in alerts():
        page, _, anchor = each["annotations"]["runbook"].partition("#")
        assert (page, anchor in anchors) == ("docs/runbook.md", True), each["alert"]


def test_the_reference_has_every_metric_of_a_page(make_service: MakeService) -> None:
    service = make_service().start()
    service.get()
    assert service.reload().returncode == 0
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics-reference.md").read_text(), re.MULTILINE))
    everywhere = {name for name in documented if not name.startswith((*CONDITIONAL, "clusterd_hooks_"))}

    def found() -> set[str]:
        return set(re.findall(r"^# TYPE (\w+) ", service.metrics().text, re.MULTILINE))

    wait_until(lambda: everywhere <= found(), "every metric is on the page")
    assert found() <= documented


def queries() -> Iterator[str]:
    """Those of the dashboard, for all services, and of a window in which a test has scraped often enough."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield re.sub(r"\$(?!__)\w+", ".*", target["expr"]).replace("$__rate_interval", "10s")


def needed_names(query: str) -> set[str]:
    return set(re.findall(r"\bclusterd_\w+", query)) - {"clusterd_instance"}


def test_the_dashboard_shows_data_and_the_alerts_fire(make_service: MakeService, tmp_path: Path) -> None:
    service = make_service(workers=2, restarts={"burst": 100, "per": "1s"}, threads=2)
    service.deploy("1", FAILS)
    service.start()
    with prometheus(tmp_path, service.metrics_port, [RULES, immediate(tmp_path)]) as scraping:
        for _ in range(20):
            service.get()
            service.get("/fails")
        wait_until(lambda: not without_data(scraping), "every query of the dashboard returns data")
        assert "ClusterdErrors" in scraping.firing()
        assert not scraping.firing() & {"ClusterdDown", "ClusterdNoReadyWorker", "ClusterdReloadFailed"}

        service.deploy("2", "import missing_module")
        assert service.reload().returncode != 0
        for _ in range(8):
            os.kill(service.workers()[0]["pid"], signal.SIGKILL)
            service.wait_for_status("^Serving: 2 workers")
        wait_until(
            lambda: scraping.firing() >= {"ClusterdReloadFailed", "ClusterdCrashLoop"},
            "a bad deploy and deaths alert",
        )
        service.stop()
        wait_until(lambda: "ClusterdDown" in scraping.firing(), "a master that does not answer alerts")


def immediate(directory: Path) -> Path:
    """The alerts without their patience."""
    file = directory / "alerts.yml"
    file.write_text(re.sub(r"^ +for: .*\n", "", ALERTS.read_text(), flags=re.MULTILINE))
    return file


def without_data(scraping: Prometheus) -> list[str]:
    return [
        query
        for query in queries()
        if not scraping.query(query) and not any(name.startswith(CONDITIONAL) for name in needed_names(query))
    ]
