"""A real Prometheus finds the hosts by the inventory of Ansible, and says which is down and which is slow."""

from pathlib import Path

from tests.support.alerting import RULES
from tests.support.hosts.ansible import Administrator
from tests.support.hosts.laboratory import NAMES, Laboratory
from tests.support.hosts.watching import PrometheusAtTheSwitch, watched
from tests.support.service import wait_until


def found(prometheus: PrometheusAtTheSwitch, query: str) -> set[str]:
    """The hosts of which a query returns something."""
    return {each["metric"]["instance"] for each in prometheus.query(query)}


def test_prometheus_scrapes_the_hosts_of_the_inventory(
    lab: Laboratory, administrator: Administrator, tmp_path: Path
) -> None:
    told = administrator.play("prometheus")
    assert told.succeeded, told.output
    again = administrator.play("prometheus")
    assert again.hosts["balancer"].changed == 0, again.output
    leaving = lab.hosts[1]
    with watched(lab, tmp_path, [RULES]) as prometheus:
        wait_until(lambda: found(prometheus, "up == 1") == set(NAMES), "it scrapes all hosts")
        assert found(prometheus, "clusterd_release_info") == set(NAMES)
        leaving.power_off()
        wait_until(lambda: found(prometheus, "up == 0") == {leaving.name}, "the host that is off is seen to be down")
        leaving.boot()
        leaving.await_boot()
        wait_until(lambda: found(prometheus, "up == 1") == set(NAMES), "it scrapes all hosts again")


def test_a_playbook_without_hosts_to_scrape_says_so(administrator: Administrator) -> None:
    told = administrator.play("prometheus", {"clusterd_hosts": "nobody"})
    assert not told.succeeded
    assert "The inventory has no host in nobody" in told.output, told.output
