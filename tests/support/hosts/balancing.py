"""HAProxy on the balancer host: its configuration, what it says of the hosts, and its orders."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.documented import MANY_HOSTS, haproxy_configurations
from tests.support.hosts.host import Host

PORT = 8080

_GLOBAL = """\
global
    stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
    hard-stop-after 60s

"""


@dataclass(frozen=True)
class Server:
    """What HAProxy says of a host (management guide, 9.1)."""

    status: str
    weight: int
    requests: int
    retried: int


class Balancer:
    """HAProxy on a host of its own, before the others."""

    def __init__(self, host: Host, servers: Sequence[Host]) -> None:
        self.host = host
        self._servers = servers

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://{self.host.address}:{PORT}/"

    def start(self) -> None:
        """Start HAProxy as Debian's unit does, as docs/many-hosts.md has it."""
        (documented,) = haproxy_configurations(MANY_HOSTS)
        servers = [f"    server {each.name} {each.address}:8000 port 8001" for each in self._servers]
        lines = [line for line in documented.splitlines() if not line.startswith("    server ")]
        text = _GLOBAL + "\n".join([*lines, *servers, ""]).replace("bind :80\n", f"bind :{PORT}\n")
        self.host.machine.write("/etc/haproxy/haproxy.cfg", text)
        self.host.machine.systemctl("start", "haproxy.service")

    def say(self, command: str) -> str:
        """Give an order on its admin socket, and return the answer."""
        ask = (
            "import socket, sys; asked = socket.socket(socket.AF_UNIX); asked.connect('/run/haproxy/admin.sock'); "
            "asked.sendall(sys.argv[1].encode() + b'\\n'); print(asked.makefile().read())"
        )
        return self.host.machine.run("/usr/bin/python3", "-c", ask, command).stdout

    def servers(self) -> dict[str, Server]:
        """What it says of each host, by name."""
        rows = csv.DictReader(self.say("show stat app 4 -1").lstrip("# ").splitlines())
        return {
            row["svname"]: Server(row["status"], int(row["weight"]), int(row["hrsp_2xx"]), int(row["wretr"]))
            for row in rows
            if row.get("svname")
        }

    def serving(self) -> set[str]:
        """The names of the hosts that get requests."""
        return {name for name, server in self.servers().items() if server.status.startswith("UP")}
