"""The laboratory: three hosts with clusterd, a balancer before them, clients at the switch; all is gone at its end."""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import yaml

from tests.support.hosts.application import APPLICATION, JOURNAL
from tests.support.hosts.balancing import PORT, Balancer
from tests.support.hosts.disks import Disk, prepared
from tests.support.hosts.host import Host
from tests.support.hosts.network import Namespace, Network
from tests.support.machines.asking import ask
from tests.support.machines.deployment import CURRENT, configure, deploy
from tests.support.machines.machine import Completed
from tests.support.machines.mixed_crowd import Clients, mixed_crowd
from tests.support.service import wait_until

NAMES = ("web1", "web2", "web3")
SETTINGS: dict[str, object] = {
    "app": "application:app",
    "directory": CURRENT,
    "workers": 2,
    "threads": 32,
    "rollout": {"settle": "200ms", "boot_timeout": "20s"},
    # HAProxy notices a host that leaves within two checks: a second, and a quarter.
    "timeouts": {"announce": "3s", "drain": "10s", "drain_idle": "2s"},
}
"""The configuration of clusterd on each host."""

SOCKETS = {"http": ("0.0.0.0:8000",), "metrics": ("0.0.0.0:8001",), "agent": ()}
"""The addresses of the sockets on each host; the agent's are those of the package."""

CLIENTS_EACH = int(os.environ.get("CLUSTERD_CLIENTS_EACH", "5"))
"""How many clients a crowd has of each of its four kinds."""

# Word for word as the role of the collection writes it: a deploy finds the sockets as they are to be.
_SOCKET = """\
# Written by Ansible (clusterd_sockets of the role clusterd). The first line clears the package's addresses.
[Socket]
"""

_BALANCER = "balancer"


@dataclass(frozen=True)
class Laboratory:
    """What is in it. The balancer's host is also the one from which the others are administered."""

    suite: str
    hosts: tuple[Host, ...]
    balancer: Balancer
    clients: Namespace
    """The network of the clients: a crowd starts there."""
    _crowds: Iterator[int] = field(default_factory=count)

    def administer(self, *command: str, check: bool = True, timeout: float = 300.0) -> Completed:
        """Run a command on the balancer's host, whose root may enter every host by ssh."""
        clean = ("env", "-i", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        return self.balancer.host.machine.run(*clean, *command, check=check, timeout=timeout)

    def serve(self) -> None:
        """Start release "one" of a good application on each host, and HAProxy before them."""
        for host in self.hosts:
            serve(host)
        self.balancer.start()
        self.await_all()

    @contextmanager
    def crowd(self, *options: str, each: int = CLIENTS_EACH) -> Iterator[Clients]:
        """Clients of all four kinds that ask the balancer, from before the block begins until it ends.

        More options are those of load.py. Fails if a POST of theirs was sent to the application twice.
        """
        name, address = f"crowd{next(self._crowds)}", self.balancer.host.address
        with mixed_crowd(self.clients, *options, each=each, host=address, port=PORT, name=name) as clients:
            yield clients
        seen = self._seen(name)
        assert seen.total() >= clients.answered, f"{seen.total()} written down, {clients}"
        assert not [path for path, times in seen.items() if times > 1 and path.startswith("/POST")], str(clients)

    def _seen(self, name: str) -> Counter[str]:
        """How often the applications were asked for which path by a crowd."""
        paths = (path for host in self.hosts for path in host.machine.read(JOURNAL).split())
        return Counter(path for path in paths if f"-{name}-" in path)

    def await_all(self) -> None:
        """Wait until HAProxy sends requests to each host."""
        wait_until(lambda: self.balancer.serving() == {host.name for host in self.hosts}, "HAProxy uses all hosts")

    def releases(self) -> list[str]:
        """Which release each host serves, in the order of the hosts."""
        return [ask(self.clients, f"http://{host.address}:8000/").text.split()[0] for host in self.hosts]


def serve(host: Host) -> None:
    """Open the sockets of a host to the network, and start a good application on it."""
    machine = host.machine
    for name, addresses in SOCKETS.items():
        unit = "clusterd" if name == "http" else f"clusterd-{name}"
        listen = "".join(f"ListenStream={address}\n" for address in ("", *addresses) if addresses)
        machine.write(f"/etc/systemd/system/{unit}.socket.d/ansible.conf", _SOCKET + listen)
    deploy(machine, "one", APPLICATION)
    configure(machine, yaml.safe_dump(SETTINGS))
    machine.systemctl("daemon-reload")
    machine.systemctl("stop", "clusterd.service", "clusterd.socket", "clusterd-metrics.socket")
    machine.systemctl("enable", "clusterd.service", "clusterd-agent.socket")
    machine.systemctl("start", "clusterd.service")


@contextmanager
def laboratory(suite: str, root: Path, package: Path | None) -> Iterator[Laboratory]:
    """Boot all hosts, with the package if there is one. HAProxy is not started, nor any application.

    Raises BootError when a host does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="clusterd-hosts-") as directory, ExitStack() as stack:
        network = Network()
        stack.callback(network.switch.end)
        below = prepared(Path(directory, "below"), root, package).layers
        hosts = []
        for number, name in enumerate((*NAMES, _BALANCER), 11):
            disk = Disk(Path(directory, name), *below)
            disk.write("etc/hostname", f"{name}\n")
            host = Host(suite, name, number, network, disk)
            stack.callback(host.end)
            host.boot()
            hosts.append(host)
        for host in hosts:
            host.await_boot()
        *served, balancer = hosts
        yield Laboratory(suite, tuple(served), Balancer(balancer, served), network.switch)
