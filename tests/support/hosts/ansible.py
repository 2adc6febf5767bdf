"""The Ansible collection that is in the package, on the balancer's host as on an administrator's machine."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts.application import APPLICATION
from tests.support.hosts.laboratory import SETTINGS, SOCKETS, Laboratory
from tests.support.machines.machine import Completed

_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Recap:
    """What Ansible counts for a host."""

    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True)
class Play:
    """A run of ansible-playbook."""

    done: Completed

    @property
    def succeeded(self) -> bool:
        """Whether nothing has failed, as its exit status says."""
        return self.done.returncode == 0

    @property
    def output(self) -> str:
        """All that it has said."""
        return self.done.stdout + self.done.stderr

    @property
    def hosts(self) -> dict[str, Recap]:
        """What it counts at its end, by host."""
        return {name: Recap(*map(int, counts[1:])) for name, *counts in _RECAP.findall(self.done.stdout)}


class Administrator:
    """Whoever deploys to the hosts of a laboratory."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._machine = lab.balancer.host.machine
        lines = [f"{host.name} ansible_host={host.address}" for host in lab.hosts]
        variables = "ansible_user=root\nansible_python_interpreter=/usr/bin/python3\n"
        watcher = f"[prometheus]\n{lab.balancer.host.name} ansible_connection=local\n"
        self._machine.write("/root/hosts.ini", "\n".join(["[clusterd]", *lines, "[clusterd:vars]", variables, watcher]))
        self._machine.write(
            "/root/ansible.cfg", "[defaults]\ninventory = hosts.ini\n[ssh_connection]\npipelining = true\n"
        )

    def release(self, name: str, source: str = APPLICATION, **files: str) -> dict[str, object]:
        """Make a release on the administrator's machine; return the variables that deploy it."""
        directory = f"releases/{name}"
        for path, text in {"application.py": source.replace("{version!r}", repr(name)), **files}.items():
            self._machine.write(f"/root/{directory}/{path}", text)
        variables = {"release": name, "source": directory, "config": SETTINGS, "sockets": SOCKETS}
        return {f"clusterd_{key}": value for key, value in variables.items()}

    def take(self, file: Path, directory: str = "") -> None:
        """Have a file of this machine in a directory of the administrator's home."""
        (self._machine.root / "root" / directory / file.name).write_bytes(file.read_bytes())

    def play(self, playbook: str, variables: Mapping[str, object] | None = None) -> Play:
        """Run a playbook of the collection with these variables."""
        self._machine.write("/root/variables.json", json.dumps(dict(variables or {})))
        command = ("ansible-playbook", f"clusterd.clusterd.{playbook}", "--extra-vars", "@variables.json")
        inside = ("sh", "-c", 'cd /root && exec "$@"', "sh", *command)
        return Play(self._lab.administer(*inside, check=False, timeout=600.0))
