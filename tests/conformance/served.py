"""The application of one framework, served under the interpreter of the frameworks by clusterd, or by uvicorn."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx

from tests.support.frameworks import Application
from tests.support.frameworks.shared import NOTES
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Never, Service, wait_until
from tests.support.serving import Client

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("FRAMEWORKS_PYTHON", ROOT / ".venv-conformance/bin/python"))
"""The interpreter that has the frameworks."""

WORKERS = 2
WRITE_SECONDS = 1
NOTE_SECONDS = 10.0
"""How long an end is waited for that takes some milliseconds."""


@dataclass
class Served:
    """What is asked: an application at a port, and the notes that it writes."""

    application: Application
    port: int
    notes: Path

    def __post_init__(self) -> None:
        self._names = (f"note{number}" for number in count())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def http(self) -> httpx.Client:
        """A client of the kind that people use."""
        return httpx.Client(base_url=f"http://{self.address}", trust_env=False, timeout=PATIENCE_SECONDS)

    def client(self, *, receive_buffer: int | None = None) -> Client:
        """A client that sees every byte, and reads no more than it is told to."""
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return Client(sock)

    def name(self) -> str:
        """A note's name that no request has had."""
        return next(self._names)

    def noted(self, name: str) -> list[float]:
        """When this was noted, on the monotonic clock."""
        path = self.notes / name
        return [float(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_note(self, name: str) -> float:
        """When this was noted first. Raises Never."""
        deadline = time.monotonic() + NOTE_SECONDS
        while not (times := self.noted(name)):
            if time.monotonic() > deadline:
                raise Never(f"the note {name}")
            time.sleep(0.01)
        return times[0]

    def wait_for_rest(self) -> None:
        """Until no request is in flight, where the server tells. Raises Never."""


@dataclass
class ByClusterd(Served):
    """Served by a cluster of its own."""

    service: Service

    def wait_for_rest(self) -> None:
        if self.application.troubles:  # A request of an earlier check may never end.
            return
        wait_until(lambda: not any(each["in_flight"] for each in self.service.workers()), "no request in flight")


@contextmanager
def by_clusterd(application: Application, directory: Path) -> Iterator[ByClusterd]:
    """Two workers of clusterd, as an operator would configure them."""
    notes = directory / "notes"
    notes.mkdir()
    settings = {
        "app": application.path,
        "interface": application.interface,
        "directory": str(ROOT),
        "python": str(PYTHON),
        "environment": {NOTES: str(notes)},
        "workers": WORKERS,
        "threads": 4,
        "timeouts": {"write": f"{WRITE_SECONDS}s", "drain": "20s"},
    }
    service = Service(directory, settings)
    try:
        service.start()
        yield ByClusterd(application, service.port, notes, service)
    finally:
        service.destroy()
        print(f"--- log of {application.title}\n{service.log()}")


@contextmanager
def by_uvicorn(application: Application, directory: Path) -> Iterator[Served]:
    """uvicorn, as the reference for what does not work."""
    notes = directory / "reference"
    notes.mkdir(exist_ok=True)
    port = free_port()
    target = application.path.removesuffix("()")
    command = [str(PYTHON), "-m", "uvicorn", "--factory", target, "--port", str(port), "--log-level", "warning"]
    environment = os.environ | {NOTES: str(notes)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    served = Served(application, port, notes)
    try:
        wait_until(lambda: answers(served), "uvicorn")
        yield served
    finally:
        process.kill()
        process.wait()


def answers(served: Served) -> bool:
    try:
        served.client().__exit__()
    except ConnectionRefusedError:
        return False
    return True
