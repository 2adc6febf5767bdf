"""A network that is there while a process of ours lives: a switch, and hosts with an address each, all in namespaces.

No interface, route or rule of this machine is touched, and no packet can leave: the namespaces belong to processes that
wait for the end of their standard input, so that the kernel removes everything with them, also after a SIGKILL.
"""

import subprocess
from pathlib import Path

from tests.support.machines.machine import Process

_BRIDGE = "lab"
_PREFIX = "10.99.0"


class Namespace:
    """A network namespace, with nothing but its loopback interface at first."""

    def __init__(self) -> None:
        # `cat` ends with its standard input, that is with the tests; nobody else has the other end.
        holder = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo made; exec cat"]
        self._holder = subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "made\n"
        self.pid = self._holder.pid
        self.configure("link set lo up")

    @property
    def path(self) -> Path:
        """What setns(2) and systemd-nspawn's --network-namespace-path= take."""
        return Path(f"/proc/{self.pid}/ns/net")

    def configure(self, *lines: str) -> None:
        """Carry out commands of ip(8) inside."""
        ip = ["nsenter", f"--net={self.path}", "--", "ip", "-batch", "-"]
        done = subprocess.run(ip, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{lines}: {done.stdout}{done.stderr}"

    def start_in_network(self, *command: str) -> Process:
        """Start a command of this machine that sees only this network."""
        entered = ["nsenter", f"--net={self.path}", "--", *command]
        return subprocess.Popen(entered, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def end(self) -> None:
        """Remove it, and the interfaces in it, as soon as no process is left inside."""
        self._holder.kill()
        self._holder.communicate()


class Network:
    """A switch with cables to each host. Clients stand at the switch, with the first address."""

    def __init__(self) -> None:
        self.switch = Namespace()
        self.switch.configure(
            f"link add {_BRIDGE} type bridge",
            f"address add {_PREFIX}.1/24 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        )

    def connect(self, name: str, number: int) -> tuple[Namespace, str]:
        """A namespace whose eth0 is at the switch, and its address, whose last part is the number."""
        address = f"{_PREFIX}.{number}"
        host = Namespace()
        self.switch.configure(
            f"link add {name} type veth peer name eth0 netns {host.pid}",
            f"link set {name} master {_BRIDGE}",
            f"link set {name} up",
        )
        host.configure(f"address add {address}/24 dev eth0", "link set eth0 up")
        return host, address

    def cut(self, name: str) -> None:
        """No packet comes from this host any more, nor to it, and nobody is told."""
        self.switch.configure(f"link set {name} down")

    def mend(self, name: str) -> None:
        """The cable works again."""
        self.switch.configure(f"link set {name} up")
