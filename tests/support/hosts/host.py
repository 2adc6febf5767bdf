"""A host that can be switched off and on: its disk, its name and its address stay."""

import os
import signal

from tests.support.hosts.disks import Disk
from tests.support.hosts.network import Namespace, Network
from tests.support.machines.machine import Machine, Process
from tests.support.machines.nspawn import Container, nspawn
from tests.support.service import wait_until


class Host:
    """A Debian at the switch of a network. It is off until boot() is called."""

    def __init__(self, suite: str, name: str, number: int, network: Network, disk: Disk) -> None:
        self.suite = suite
        self.name = name
        self._network = network
        self._disk = disk
        self._container: Container | None = None
        self.namespace: Namespace
        self.namespace, self.address = network.connect(name, number)

    def boot(self) -> None:
        """Switch it on, and go on before it is up."""
        assert self._container is None
        options = (f"--network-namespace-path={self.namespace.path}", f"--machine={self.name}", "--link-journal=no")
        self._container = Container(self._disk.command(*nspawn(self._disk.mounted, *options)))

    def await_boot(self) -> Machine:
        """The machine inside, once systemd says that it is up; sshd and the sockets are there."""
        assert self._container is not None
        self._container.await_boot()
        return self.machine

    @property
    def machine(self) -> Machine:
        """What is inside as long as it is on, and until the next reboot."""
        assert self._container is not None
        leader = self._container.leader()
        assert leader is not None, f"{self.name} is booting or off"
        return Machine(self.suite, leader)

    def start_in_network(self, *command: str) -> Process:
        """Start a command of this machine (not the host's) that sees only the host's network."""
        return self.namespace.start_in_network(*command)

    def power_off(self) -> None:
        """Shut it down as an administrator does, and wait for that."""
        assert self._container is not None
        self.machine.systemctl("poweroff", check=False)
        wait_until(self._container.has_ended, f"{self.name} is off")
        self._end()

    def crash(self) -> None:
        """As when the power fails: not even a packet says that it is gone. mend() and boot() bring it back."""
        self.cut()
        leader = self.machine.leader
        os.kill(leader, signal.SIGKILL)
        self._end()

    def cut(self) -> None:
        """Cut its link to the network, of which nobody is told."""
        self._network.cut(self.name)

    def mend(self) -> None:
        """Its link works again."""
        self._network.mend(self.name)

    def end(self) -> None:
        """Switch it off, however it is, and remove it from the network."""
        if self._container is not None:
            self._end()
        self.namespace.end()

    def _end(self) -> None:
        assert self._container is not None
        self._container.end()
        self._container = None
