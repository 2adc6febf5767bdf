"""Two hosts behind the proxies of Debian: the service and an instance, by the examples as they are installed."""

import pytest

from tests.support.documented import haproxy_configurations, nginx_configurations
from tests.support.machines.asking import ask
from tests.support.machines.deployment import CONFIG, configure, deploy
from tests.support.machines.machine import Machine
from tests.support.machines.mixed_crowd import Clients, mixed_crowd
from tests.support.machines.reliability import Seen, record
from tests.support.service import wait_until

EXAMPLES = "/usr/share/clusterd/examples"
PROXIES = {
    "haproxy": ("haproxy", "-db", "-f", f"{EXAMPLES}/haproxy/haproxy.cfg"),
    "nginx": ("nginx", "-p", "/run/beside", "-e", "stderr", "-c", f"{EXAMPLES}/nginx/nginx.conf"),
}
PORT = 8080

SECOND_SOCKET = "[Socket]\nListenStream=\nListenStream=127.0.0.1:8010\n"


@pytest.fixture(params=PROXIES)
def proxied(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    """The service as the first host, an instance as the second one, and one of the proxies."""
    deploy(machine, "one")
    configure(machine)
    configure(machine, CONFIG + "metrics: 127.0.0.1:8011\n", "two")
    machine.write("/etc/systemd/system/clusterd@two.socket.d/override.conf", SECOND_SOCKET)
    machine.write("/run/beside/here", "")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "clusterd@two.socket", "clusterd@two.service")
    machine.systemctl("restart", "clusterd.service")
    proxy: str = request.param
    machine.run("systemd-run", f"--unit=beside-{proxy}", *PROXIES[proxy])
    wait_until(lambda: serves(machine, 8000) and serves(machine, PORT), "the proxy answers")
    return machine


@pytest.mark.operate
def test_the_end_of_a_host_loses_only_what_may_not_be_repeated(
    proxied: Machine, request: pytest.FixtureRequest
) -> None:
    proxy = request.node.callspec.params["proxied"]
    with mixed_crowd(proxied) as restarted:
        proxied.systemctl("restart", "clusterd.service")
    assert_lost(restarted, "restarted", posts=0)
    record(proxied, f"one of two hosts behind {proxy} is restarted", Seen(tuple(restarted.crowds.values())))
    with mixed_crowd(proxied) as stopped:
        proxied.systemctl("stop", "clusterd.socket", "clusterd.service")
        assert all(serves(proxied, PORT) for _ in range(20))
        proxied.systemctl("start", "clusterd.socket", "clusterd.service")
        wait_until(lambda: serves(proxied, 8000), "it serves again")
    assert_lost(stopped, "stopped", posts=0)
    record(proxied, f"one of two hosts behind {proxy} is stopped and started", Seen(tuple(stopped.crowds.values())))
    with mixed_crowd(proxied) as killed:
        proxied.systemctl("kill", "--signal=KILL", "--kill-whom=all", "clusterd.service")
        wait_until(lambda: serves(proxied, 8000), "it serves again")
    # One of each client at most: from then on, connections wait in the sockets that systemd holds.
    assert_lost(killed, "killed", posts=10)
    what = f"all of one of two hosts behind {proxy} is killed: POSTs are not sent again"
    record(proxied, what, Seen(tuple(killed.crowds.values())))


def test_the_proxies_accept_what_is_documented(bare_machine: Machine) -> None:
    for text in haproxy_configurations():
        bare_machine.write("/root/haproxy.cfg", text)
        bare_machine.run("haproxy", "-c", "-dW", "-f", "/root/haproxy.cfg")
    for text in nginx_configurations(8080):
        bare_machine.write("/root/nginx.conf", text)
        bare_machine.run("nginx", "-t", "-p", "/root", "-e", "stderr", "-c", "/root/nginx.conf")


def assert_lost(clients: Clients, fault: str, *, posts: int) -> None:
    """No GET, and no more POSTs than that."""
    print(fault, clients)
    assert clients.lost("GET") == 0, str(clients)
    assert clients.lost("POST") <= posts, str(clients)


def serves(machine: Machine, port: int) -> bool:
    """Whether a host, or the proxy, answers."""
    return ask(machine, f"http://127.0.0.1:{port}/").status == 200
