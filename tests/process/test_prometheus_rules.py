"""The files that the package ships for Prometheus, by themselves."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.alerting import ALERTS, OF_A_SERVICE, OF_HOSTS, PACKAGING, RULES, shipped_alerts
from tests.support.documented import prometheus_configurations
from tests.support.neighbours import ENVIRONMENT, needs
from tests.support.ports import free_port
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

ROOT = Path(__file__).parents[2]
EXPECTATIONS = ROOT / "tests/support/prometheus_rules/clusterd.test.yml"
OF_SEVERAL = EXPECTATIONS.with_name("hosts.test.yml")

CONDITIONAL = ("clusterd_cgroup_", "clusterd_tls_")
"""What there is only where the kernel tells it, or with TLS."""


def promtool(*arguments: str | Path) -> None:
    needs("promtool", "prometheus")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=EXPECTATIONS.parent, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_valid() -> None:
    promtool("check", "config", PACKAGING / "prometheus/prometheus.yml")
    promtool("check", "rules", RULES, ALERTS)


def test_what_is_documented_is_valid(tmp_path: Path) -> None:
    for text in prometheus_configurations():
        (tmp_path / "prometheus.yml").write_text(text)
        promtool("check", "config", tmp_path / "prometheus.yml")


def test_alerts_fire_when_they_should_and_otherwise_not() -> None:
    promtool("test", "rules", EXPECTATIONS)
    names = {each["alert"] for each in shipped_alerts(OF_A_SERVICE)}
    healthy, ill = yaml.safe_load(EXPECTATIONS.read_text())["tests"]
    assert {each["alertname"] for each in healthy["alert_rule_test"]} == names
    fired = ill["promql_expr_test"][0]["exp_samples"]
    assert {re.findall(r'alertname="(\w+)"', each["labels"])[0] for each in fired} == names


def test_alerts_of_several_hosts_fire_when_they_should_and_otherwise_not() -> None:
    promtool("test", "rules", OF_SEVERAL)
    names = {each["alert"] for each in shipped_alerts(OF_HOSTS)}
    healthy, ill = yaml.safe_load(OF_SEVERAL.read_text())["tests"]
    assert {each["alertname"] for each in healthy["alert_rule_test"]} == names
    assert {each["alertname"] for each in ill["alert_rule_test"] if each.get("exp_alerts")} == names


def test_every_alert_has_its_section_in_the_runbook() -> None:
    titles = re.findall(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for each in shipped_alerts():
        page, _, anchor = each["annotations"]["runbook"].partition("#")
        assert (page, anchor in anchors) == ("docs/runbook.md", True), each["alert"]


def test_the_reference_has_every_metric_of_a_page(make_service: MakeService) -> None:
    service = make_service(agent=f"127.0.0.1:{free_port()}").start()
    service.get()
    assert service.reload().returncode == 0
    documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics-reference.md").read_text(), re.MULTILINE))
    everywhere = {name for name in documented if not name.startswith((*CONDITIONAL, "clusterd_hooks_"))}

    def found() -> set[str]:
        return set(re.findall(r"^# TYPE (\w+) ", service.metrics().text, re.MULTILINE))

    wait_until(lambda: everywhere <= found(), "every metric is on the page")
    assert found() <= documented
