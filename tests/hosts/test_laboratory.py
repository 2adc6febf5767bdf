"""The laboratory itself: what tests of several hosts rely on."""

from tests.support.hosts.laboratory import Laboratory
from tests.support.machines.asking import ask
from tests.support.machines.crowd import crowd


def test_every_host_answers_at_its_own_address(lab: Laboratory) -> None:
    for host in lab.hosts:
        assert ask(lab.clients, f"http://{host.address}:8000/").status == 200
        assert ask(lab.clients, f"http://{host.address}:8001/readyz").text == "ready\n"


def test_the_balancer_spreads_the_load_over_all_hosts(lab: Laboratory) -> None:
    before = lab.balancer.servers()
    with crowd(lab.clients, "--clients", "6", host=lab.balancer.host.address, port=8080) as seen:
        pass
    assert seen.result.lost == {}
    after = lab.balancer.servers()
    assert all(after[host.name].requests > before[host.name].requests for host in lab.hosts)


def test_the_hosts_are_entered_from_the_balancer_without_a_question(lab: Laboratory) -> None:
    for host in lab.hosts:
        done = lab.administer("ssh", "-o", "BatchMode=yes", host.address, "cat /etc/hostname; hostname")
        assert done.stdout.split()[-1] == host.name


def test_no_packet_leaves_the_laboratory(lab: Laboratory) -> None:
    for host in (*lab.hosts, lab.balancer.host):
        routes = host.machine.run("ip", "route").stdout.splitlines()
        assert [route.split()[0] for route in routes] == ["10.99.0.0/24"]
