"""A service below a systemd of its own (service_manager.py), which keeps its descriptors and starts it again."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import service_manager
from tests.support.processes import descendants
from tests.support.service import PATIENCE_SECONDS, Service, wait_until


@dataclass(frozen=True)
class Seen:
    """What the manager knows of the service."""

    pid: int
    """The master, 0 while there is none."""
    starts: int
    ready: int
    stopping: int
    refused: int
    status: str
    ends: tuple[int, ...]
    stored: tuple[tuple[str, str], ...]
    """The name of each stored descriptor, the newest first, and its file as /proc shows it."""


@dataclass
class ManagedService(Service):
    """One that systemd has started, with its sockets. `process` is the manager; `pid` and `signal` mean the master."""

    most_stored: int = 1 << 20
    """FileDescriptorStoreMax="""
    ending_seconds: float = PATIENCE_SECONDS
    """How long what a master has left behind may go on after the end of the service."""
    is_blocking: bool = False
    """NonBlocking=no"""
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.manager = self.directory / "manager.sock"
        for name, port in (("http", self.port), ("metrics", self.metrics_port)):
            self.sockets[name] = socket.create_server(("127.0.0.1", port), backlog=4096)
        runtime = self.directory / "run"
        runtime.mkdir(exist_ok=True)
        self.environment |= {"RUNTIME_DIRECTORY": str(runtime), "CLUSTERD_SOCKETS": "http=a.socket metrics=b.socket"}
        self.passed = tuple(each.fileno() for each in self.sockets.values())
        passed = [f"--socket={name}={each.fileno()}" for name, each in self.sockets.items()]
        program = str(Path(service_manager.__file__))
        options = [f"--most={self.most_stored}", f"--ending-seconds={self.ending_seconds}"]
        options += ["--blocking"] if self.is_blocking else []
        self.inside = (sys.executable, program, *options, *passed, str(self.manager), "--")
        self.configure(listen=None, metrics=None)

    @property
    def pid(self) -> int:
        """The master's pid, once there is one."""
        pid: int = wait_until(lambda: self.seen().pid, f"a master:\n{self.log()}")
        return pid

    @property
    def family(self) -> list[int]:
        """Every process of the service but the master."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if pid != self.seen().pid]

    def signal(self, number: int) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def kill_the_master(self) -> None:
        """End it by SIGKILL, and wait until the next one has been started."""
        before = self.seen()
        os.kill(before.pid, signal.SIGKILL)
        wait_until(lambda: self.seen().starts > before.starts, f"another master:\n{self.log()}")

    def stop(self) -> int:
        """Stop it for good, as `systemctl stop` does. Return the exit status of the last master.

        Or `service_manager.LEFT_SOMETHING`, when processes of it had to be killed.
        """
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def destroy(self) -> None:
        """End it whatever state it is in, with everything it started."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                print("the manager does not end")
        super().destroy()
        for each in self.sockets.values():
            each.close()

    # ---- the manager

    def seen(self) -> Seen:
        """What the manager knows now."""
        return self._ask("see")

    def drop_store(self) -> None:
        """Have the manager close every stored descriptor."""
        self._ask("drop")

    def start_another_master(self) -> None:
        """Have the manager start one though the present one lives, which it takes no notice of any more."""
        self._ask("start another")

    def limit_descriptors(self, limit: int | None) -> None:
        """Let the masters that start from now on have so many open files at first (the soft limit)."""
        self._ask("limit descriptors", limit=limit)

    def delay_barriers(self, seconds: float) -> None:
        """Have the manager answer later that it has stored what was sent."""
        self._ask("delay barriers", seconds=seconds)

    def _ask(self, command: str, **arguments: Any) -> Seen:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_SECONDS)
            sock.connect(str(self.manager))
            sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.read())
        stored = tuple((name, file) for name, file in answer.pop("stored"))
        return Seen(stored=stored, ends=tuple(answer.pop("ends")), **answer)
