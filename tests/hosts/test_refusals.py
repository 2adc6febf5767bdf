"""What a host is left with by a deploy that it refuses, that is lost or that was interrupted. One host is enough."""

import re
from collections.abc import Mapping

import pytest

from tests.support.hosts.ansible import Administrator, Play
from tests.support.hosts.application import APPLICATION
from tests.support.hosts.laboratory import SETTINGS, SOCKETS, Laboratory
from tests.support.machines.asking import ask
from tests.support.machines.machine import Machine

_MARK = "/srv/app/.clusterd/interrupted"
_OTHER_ADDRESSES = {**SOCKETS, "http": ["0.0.0.0:8000", "0.0.0.0:8010"]}

# Ends the session of ssh in which it runs, so that Ansible gets no answer.
_LOSE_THE_SESSION = """\
process=$$
until grep -q ^sshd /proc/$process/comm; do process=$(cut -d ' ' -f 4 /proc/$process/stat); done
kill -KILL $process
"""
_LOSE_THE_ANSWER = f"""\
#!/bin/sh
[ "$1" = reload ] || exec /usr/bin/clusterctl "$@"
rm "$0"
/usr/bin/clusterctl "$@"
{_LOSE_THE_SESSION}"""


@pytest.fixture
def host(lab: Laboratory) -> Machine:
    """The one."""
    return lab.hosts[2].machine


def deploy(administrator: Administrator, variables: Mapping[str, object], **more: object) -> Play:
    """Deploy to it; more is without its "clusterd_"."""
    named = {f"clusterd_{name}": value for name, value in more.items()}
    return administrator.play("deploy", {**variables, "clusterd_hosts": "web3", **named})


def limit(host: Machine) -> str:
    """How many descriptors the service that runs may have."""
    limits = host.read(f"/proc/{host.property('clusterd.service', 'MainPID')}/limits")
    (number,) = re.findall(r"^Max open files +(\d+)", limits, re.MULTILINE)
    return str(number)


def test_after_a_lost_answer_the_host_serves_what_it_has_on_its_disk(
    lab: Laboratory, administrator: Administrator, host: Machine
) -> None:
    before = lab.releases()
    host.write("/usr/local/bin/clusterctl", _LOSE_THE_ANSWER, 0o755)
    play = deploy(administrator, administrator.release("unanswered"))
    assert not (host.root / "usr/local/bin/clusterctl").exists(), play.output
    assert play.hosts["web3"].failed == 1, play.output
    assert lab.releases() == before
    assert host.run("readlink", "/srv/app/current").stdout == f"releases/{before[2]}\n"
    assert not (host.root / _MARK[1:]).exists()


@pytest.mark.long
def test_a_host_that_is_lost_with_half_a_release_does_not_go_on_with_it(
    administrator: Administrator, host: Machine
) -> None:
    host.write("/usr/local/bin/loses", f"#!/bin/sh\n{_LOSE_THE_SESSION}", 0o755)
    needs = administrator.release("half_there", APPLICATION, **{"requirements.txt": ""})
    play = deploy(administrator, needs, requirements="requirements.txt", python="/usr/local/bin/loses")
    assert not play.succeeded
    assert play.hosts["web3"].unreachable == 1, play.output
    assert (host.root / "srv/app/releases/half_there/application.py").exists()
    assert not (host.root / "srv/app/releases/half_there/.complete").exists()


@pytest.mark.long
def test_units_that_do_not_start_are_put_back_and_an_interrupted_change_is_made_up_for(
    lab: Laboratory, administrator: Administrator, host: Machine
) -> None:
    before = lab.releases()
    variables = administrator.release(before[2])
    addresses = host.read("/etc/systemd/system/clusterd.socket.d/ansible.conf")
    play = deploy(administrator, variables, sockets=_OTHER_ADDRESSES, service={"ExecStartPre": "/bin/false"})
    assert not play.succeeded
    assert "Start, or restart" in play.output, play.output
    assert lab.releases() == before
    assert not (host.root / "etc/systemd/system/clusterd.service.d/ansible.conf").exists()
    assert host.read("/etc/systemd/system/clusterd.socket.d/ansible.conf") == addresses
    assert ":8010" not in host.run("ss", "--listening", "--tcp", "--numeric").stdout

    host.write("/etc/systemd/system/clusterd.service.d/ansible.conf", settings("LimitNOFILE=7000"))
    host.write(_MARK, "")
    play = deploy(administrator, variables, service={"LimitNOFILE": 7000})
    assert play.succeeded, play.output
    assert limit(host) == "7000"
    assert not (host.root / _MARK[1:]).exists()

    play = deploy(administrator, variables, service={})
    assert play.succeeded, play.output
    assert limit(host) != "7000"
    again = deploy(administrator, variables, service={})
    assert again.hosts["web3"].changed == 0, again.output


def settings(line: str) -> str:
    """The drop-in of the service, word for word as the role writes it."""
    return f"# Written by Ansible (clusterd_service of the role clusterd).\n[Service]\n{line}\n"


@pytest.mark.long
def test_an_instance_is_deployed_below_a_link_from_the_first_release_on(
    lab: Laboratory, administrator: Administrator, host: Machine
) -> None:
    host.run("mkdir", "-p", "/var/shop")
    host.link("/srv/shop", "/var/shop")
    shop = {
        "clusterd_instance": "shop",
        "clusterd_root": "/srv/shop",
        "clusterd_config": {**SETTINGS, "directory": "/srv/shop/current"},
        "clusterd_sockets": {"http": ["0.0.0.0:8020"]},
        "clusterd_return_seconds": 0,
    }
    fails = (
        APPLICATION
        + '\nif os.path.exists("/srv/shop/.clusterd/interrupted"):\n    raise RuntimeError("not this one")\n'
    )
    play = deploy(administrator, {**administrator.release("7", fails), **shop}, release=7)
    assert not play.succeeded
    assert "Start, or restart" in play.output, play.output
    socket = "/etc/systemd/system/clusterd@shop.socket.d/ansible.conf"
    for path in ("/etc/clusterd/shop.yaml", "/srv/shop/current", socket):
        assert host.run("test", "-e", path, check=False).returncode == 1, path
    for release in (7, 8):
        play = deploy(administrator, {**administrator.release(str(release)), **shop}, release=release, keep=0)
        assert play.succeeded, play.output
        assert ask(lab.clients, f"http://{lab.hosts[2].address}:8020/").text.startswith(f"{release} ")
    assert host.run("ls", "/srv/shop/releases").stdout.split() == ["7", "8"]
    refused = deploy(administrator, {**administrator.release("9"), **shop}, sockets=SOCKETS)
    assert "an instance has no socket but http" in refused.output, refused.output
    host.systemctl("disable", "--now", "clusterd@shop.socket", "clusterd@shop.service")
