"""What clients lose when a host leaves, dies or comes back, or when the balancer itself is reloaded."""

from tests.support.hosts.laboratory import CLIENTS_EACH, Laboratory
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
