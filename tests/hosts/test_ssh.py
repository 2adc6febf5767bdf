"""The script of docs/many-hosts.md that deploys without Ansible, as it is on the page."""

import re
from pathlib import Path

import pytest
import yaml

from tests.support.hosts.ansible import Administrator
from tests.support.hosts.application import APPLICATION
from tests.support.hosts.laboratory import SETTINGS, Laboratory
from tests.support.machines.deployment import configure
from tests.support.machines.machine import Completed

_PAGE = Path(__file__).parents[2] / "docs/many-hosts.md"
_FAILS_ON_THE_SECOND = APPLICATION + '\nif os.uname().nodename == "web2":\n    raise RuntimeError("not on this host")\n'


def script() -> str:
    """The script on the page."""
    (found,) = re.findall(r"^```sh\n(# usage: deploy .*?)^```$", _PAGE.read_text(), re.M | re.S)
    return str(found)


def deploy(lab: Laboratory, administrator: Administrator, release: str, source: str = APPLICATION) -> Completed:
    """Run the script on the administrator's machine."""
    administrator.release(release, source)
    lab.balancer.host.machine.write("/root/deploy", script())
    hosts = [host.address for host in lab.hosts]
    return lab.administer("sh", "/root/deploy", release, f"/root/releases/{release}", *hosts, check=False)


@pytest.fixture
def lab(lab: Laboratory) -> Laboratory:
    """The laboratory with its own configuration, which the script does not bring and a playbook may have replaced."""
    for host in lab.hosts:
        configure(host.machine, yaml.safe_dump(SETTINGS))
    return lab


def test_the_script_deploys_to_all_hosts_and_loses_nothing(lab: Laboratory, administrator: Administrator) -> None:
    with lab.crowd() as clients:
        done = deploy(lab, administrator, "plain")
    assert done.returncode == 0, done.stdout + done.stderr
    assert lab.releases() == ["plain", "plain", "plain"]
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)


def test_the_script_stops_at_a_refusal_and_puts_back_the_hosts_before(
    lab: Laboratory, administrator: Administrator
) -> None:
    before = lab.releases()
    with lab.crowd() as clients:
        done = deploy(lab, administrator, "plain_bad", _FAILS_ON_THE_SECOND)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not on this host" in done.stdout + done.stderr
    assert "plain_bad" in clients.answers
    assert lab.releases() == before
    assert not (lab.hosts[2].machine.root / "srv/app/releases/plain_bad").exists()
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)
