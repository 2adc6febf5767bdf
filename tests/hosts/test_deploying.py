"""Deploying to all hosts by the Ansible collection, while clients ask."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.hosts.ansible import Administrator, Play
from tests.support.hosts.application import APPLICATION
from tests.support.hosts.laboratory import SETTINGS, SOCKETS, Laboratory
from tests.support.machines.asking import ask
from tests.support.machines.deployment import configure
from tests.support.machines.mixed_crowd import Clients
from tests.support.machines.packages import newer

# A worker of this release does not start on web2, and `clusterd --check` says so.
_FAILS_ON_THE_SECOND = APPLICATION + '\nif os.uname().nodename == "web2":\n    raise RuntimeError("not on this host")\n'
# The check succeeds: this fails only while the role has the release activated.
_FAILS_IN_THE_ROLLOUT = _FAILS_ON_THE_SECOND.replace(
    '== "web2"', '== "web2" and os.path.exists("/srv/app/.clusterd/interrupted")'
)
_NEEDS_A_MODULE = APPLICATION.replace("import os, time", "import os, time\nimport only_in_the_environment")


def deployed(lab: Laboratory, administrator: Administrator, variables: Mapping[str, object]) -> tuple[Play, Clients]:
    """Deploy while clients ask."""
    with lab.crowd() as clients:
        play = administrator.play("deploy", variables)
    print(clients)
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)
    return play, clients


@pytest.mark.parametrize("names", [["web3"], pytest.param(["web1", "web2", "web3"], marks=pytest.mark.long)])
def test_a_deploy_loses_nothing_and_the_next_run_changes_nothing(
    lab: Laboratory, administrator: Administrator, names: list[str]
) -> None:
    before = lab.releases()
    release = f"on_{len(names)}"
    variables = {**administrator.release(release), "clusterd_hosts": ":".join(names)}
    play, clients = deployed(lab, administrator, variables)
    assert play.succeeded, play.output
    assert release in clients.answers
    after = [release if host.name in names else old for host, old in zip(lab.hosts, before, strict=True)]
    assert lab.releases() == after
    again = administrator.play("deploy", {**variables, "clusterd_serial": "100%"})
    assert again.succeeded, again.output
    assert {name: recap.changed for name, recap in again.hosts.items()} == dict.fromkeys(names, 0), again.output


@pytest.mark.long
def test_a_deploy_that_was_interrupted_before_the_reload_is_finished_by_the_next_one(
    lab: Laboratory, administrator: Administrator
) -> None:
    variables = {**administrator.release("cut"), "clusterd_hosts": "web3"}
    assert administrator.play("deploy", variables).succeeded
    host = lab.hosts[2].machine
    status = host.run("clusterctl", "status").stdout.splitlines()[0]
    host.write("/srv/app/.clusterd/interrupted", "")
    play = administrator.play("deploy", variables)
    assert play.succeeded, play.output
    assert host.run("clusterctl", "status").stdout.splitlines()[0] != status
    assert not (host.root / "srv/app/.clusterd/interrupted").exists()


def test_a_release_that_fails_on_the_second_host_stops_there_and_the_first_goes_back(
    lab: Laboratory, administrator: Administrator
) -> None:
    before = lab.releases()
    play, clients = deployed(lab, administrator, administrator.release("bad", _FAILS_IN_THE_ROLLOUT))
    assert not play.succeeded, play.output
    assert "not on this host" in play.output, play.output
    assert {name: recap.failed for name, recap in play.hosts.items()} == {"web1": 0, "web2": 1, "web3": 0}, play.output
    assert play.hosts["web3"].changed == 0
    assert "bad" in clients.answers
    assert lab.releases() == before
    # What the disk has is what serves, so the next start of the service changes nothing.
    links = [host.machine.run("readlink", "/srv/app/current").stdout.strip() for host in lab.hosts]
    assert links == [f"releases/{release}" for release in before]


@pytest.mark.long
def test_hosts_that_were_done_may_be_left_and_are_rolled_back_later(
    lab: Laboratory, administrator: Administrator
) -> None:
    before = lab.releases()
    variables = {**administrator.release("half", _FAILS_ON_THE_SECOND), "clusterd_on_failure": "leave"}
    play, _ = deployed(lab, administrator, variables)
    assert not play.succeeded, play.output
    assert lab.releases() == ["half", *before[1:]]
    back = administrator.play("rollback", {"clusterd_hosts": "web1"})
    assert back.succeeded, back.output
    assert lab.releases() == before
    again = administrator.play("rollback", {"clusterd_hosts": "web1"})
    assert again.hosts["web1"].changed == 0, again.output


@pytest.mark.long
def test_a_host_that_is_out_of_reach_stops_the_deploy_and_those_before_go_back(
    lab: Laboratory, administrator: Administrator
) -> None:
    before = lab.releases()
    lab.hosts[1].cut()
    try:
        play = administrator.play("deploy", {**administrator.release("far"), "clusterd_connect_timeout": 3})
    finally:
        lab.hosts[1].mend()
    assert not play.succeeded, play.output
    assert {name: recap.failed for name, recap in play.hosts.items()} == {"web1": 0, "web2": 1, "web3": 0}, play.output
    assert lab.releases() == before


@pytest.mark.long
def test_a_release_has_an_environment_of_its_own_and_a_host_other_addresses(
    lab: Laboratory, administrator: Administrator, tmp_path: Path
) -> None:
    wheel = administrator.release("needy", _NEEDS_A_MODULE, **{"requirements.txt": "./only-1-py3-none-any.whl\n"})
    administrator.take(made_wheel(tmp_path), "releases/needy")
    more = {
        "clusterd_hosts": "web1",
        "clusterd_requirements": "requirements.txt",
        "clusterd_config": {**SETTINGS, "python": "/srv/app/current/.venv/bin/python"},
        "clusterd_sockets": {**SOCKETS, "http": ["0.0.0.0:8000", "0.0.0.0:8010"]},
    }
    play, _ = deployed(lab, administrator, {**wheel, **more})
    assert play.succeeded, play.output
    assert ask(lab.clients, f"http://{lab.hosts[0].address}:8010/").text.startswith("needy ")
    assert lab.releases()[0] == "needy"


def made_wheel(directory: Path) -> Path:
    """A wheel with one empty module."""
    path = directory / "only-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("only_in_the_environment.py", "")
        wheel.writestr("only-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: only\nVersion: 1\n")
        wheel.writestr("only-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("only-1.dist-info/RECORD", "")
    return path


@pytest.mark.long
def test_an_upgrade_of_the_package_on_all_hosts_loses_nothing(
    lab: Laboratory, administrator: Administrator, package: Path, tmp_path: Path
) -> None:
    upgrade = newer(package, tmp_path)
    administrator.take(upgrade)
    play, _ = deployed(lab, administrator, {"clusterd_package": upgrade.name})
    assert play.succeeded, play.output
    version = upgrade.name.split("_")[1]
    for host in lab.hosts:
        assert host.machine.run("dpkg-query", "--show", "--showformat=${Version}", "clusterd").stdout == version


@pytest.mark.long
def test_every_host_is_restarted_in_turn_and_nothing_is_lost(lab: Laboratory, administrator: Administrator) -> None:
    before = [host.machine.leader for host in lab.hosts]
    with lab.crowd() as clients:
        play = administrator.play("restart_host", {"clusterd_reboot_timeout": 60})
    assert play.succeeded, play.output
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)
    assert all(host.machine.leader != leader for host, leader in zip(lab.hosts, before, strict=True))


@pytest.mark.long
def test_a_host_is_drained_and_put_back(lab: Laboratory, administrator: Administrator) -> None:
    assert not administrator.play("drain").succeeded
    assert lab.balancer.serving() == {"web1", "web2", "web3"}
    with lab.crowd() as clients:
        drained = administrator.play("drain", {"clusterd_hosts": "web2"})
        assert drained.hosts["web2"].changed == 1, drained.output
        assert lab.balancer.serving() == {"web1", "web3"}
        again = administrator.play("drain", {"clusterd_hosts": "web2"})
        assert again.hosts["web2"].changed == 0, again.output
        back = administrator.play("drain", {"clusterd_hosts": "web2", "clusterd_drained": False})
        assert back.hosts["web2"].changed == 1, back.output
        lab.await_all()
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)


@pytest.mark.long
def test_a_service_that_is_in_no_rotation_is_not_drained(lab: Laboratory, administrator: Administrator) -> None:
    host = lab.hosts[1].machine
    host.write("/srv/jobs/jobs.py", "import threading\n\n\ndef main():\n    threading.Event().wait()\n")
    configure(host, "run: jobs:main\ndirectory: /srv/jobs\n", "jobs")
    host.systemctl("start", "clusterd@jobs.service")
    for state in ("runs", "is stopped"):
        drained = administrator.play("drain", {"clusterd_hosts": "web2", "clusterd_instance": "jobs"})
        assert drained.succeeded, f"{state}: {drained.output}"
        assert drained.hosts["web2"].changed == 0, f"{state}: {drained.output}"
        host.systemctl("stop", "clusterd@jobs.service", "clusterd@jobs.socket")
