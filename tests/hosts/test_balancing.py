"""What clients lose when a host leaves, dies or comes back, or when the balancer itself is reloaded."""

import time
from collections.abc import Iterator

import pytest
import yaml

from tests.support.hosts.application import SLOW
from tests.support.hosts.laboratory import CLIENTS_EACH, SETTINGS, Laboratory
from tests.support.machines.deployment import configure
from tests.support.service import wait_until


def test_a_host_that_is_shut_down_and_returns_costs_nothing(lab: Laboratory) -> None:
    leaving = lab.hosts[1]
    with lab.crowd() as clients:
        leaving.power_off()
        assert lab.balancer.serving() == {"web1", "web3"}
        leaving.boot()
        leaving.await_boot()
        lab.await_all()
        before = lab.balancer.servers()[leaving.name].requests
        wait_until(lambda: lab.balancer.servers()[leaving.name].requests > before, "it gets requests again")
    assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)


def test_a_host_that_dies_without_a_word_costs_what_it_had_in_hand(lab: Laboratory) -> None:
    dying = lab.hosts[2]
    with lab.crowd() as clients:
        dying.crash()
        wait_until(lambda: lab.balancer.serving() == {"web1", "web2"}, "HAProxy has noticed")
        dying.mend()
        dying.boot()
        dying.await_boot()
        lab.await_all()
    print(clients)
    # Each client has one request at a time, a third of them at this host; which of its requests have been sent, chance
    # decides. Until the host is out, new connections time out, and go elsewhere.
    assert clients.lost("GET") + clients.lost("POST") <= 4 * CLIENTS_EACH, str(clients)


def test_a_reload_of_the_balancer_itself_costs_nothing(lab: Laboratory) -> None:
    with lab.crowd() as clients:
        for _ in range(3):
            lab.balancer.host.machine.systemctl("reload", "haproxy.service")
            lab.await_all()
    # HAProxy closes the kept connections of its clients, perhaps just as one sends a request. Clients know that and
    # send it again, if it may be sent twice (RFC 9112, section 9.3.1). That is between HAProxy and them.
    fresh = [seen.result for (_, connection), seen in clients.crowds.items() if connection == "fresh"]
    assert sum(sum(result.lost.values()) for result in fresh) == 0, str(clients)
    assert set().union(*(seen.result.statuses for seen in clients.crowds.values())) == {"200"}, str(clients)


_SECONDS = 10
"""So long a host that has become slow may have more than its share, and so long each share is measured."""


@pytest.fixture
def busy_lab(lab: Laboratory) -> Iterator[Laboratory]:
    """The hosts with so few threads that requests wait for them."""
    for host in lab.hosts:
        configure(host.machine, yaml.safe_dump({**SETTINGS, "threads": 4}))
        host.machine.systemctl("reload", "clusterd.service")
    yield lab
    for host in lab.hosts:
        host.machine.run("rm", "-f", SLOW)
        configure(host.machine, yaml.safe_dump(SETTINGS))
        host.machine.systemctl("reload", "clusterd.service")


@pytest.mark.long
def test_a_host_that_becomes_five_times_slower_gets_a_fifth_and_hardly_slows_the_others(busy_lab: Laboratory) -> None:
    slow, *others = busy_lab.hosts

    def loaded() -> tuple[float, float]:
        """The share of the slow host in an equal one, and the slowest percentile of each kind of client."""
        before = busy_lab.balancer.servers()
        with busy_lab.crowd("--think", "0", each=25) as clients:
            time.sleep(_SECONDS)
        after = busy_lab.balancer.servers()
        answered = {name: after[name].requests - server.requests for name, server in before.items()}
        assert clients.lost("GET") + clients.lost("POST") == 0, str(clients)
        share = answered[slow.name] * len(others) / sum(answered[host.name] for host in others)
        return share, max(seen.result.p99 for seen in clients.crowds.values())

    _, usual = loaded()
    slow.machine.write(SLOW, "")
    loaded()
    share, p99 = loaded()
    print(f"share {share:.2f}, p99 {p99:.3f} s, usually {usual:.3f} s")
    assert share < 0.3
    assert p99 < 2 * usual
