"""The service under torment, and what has been done to it: what a fault needs to know, and what a verdict asks."""

import asyncio
import os
import signal
import socket
from collections import Counter
from pathlib import Path
from random import Random

from tests.support.soak.watched import WatchedService
from tests.support.templates import titled

ASKED_SECONDS = 30.0


class Scene:
    """One service, its application, and the chances that are taken."""

    def __init__(self, service: WatchedService, source: str, seed: int, workers: int) -> None:
        self.service = service
        self.random = Random(f"{seed} faults")
        self.workers = workers
        """How many it has at the start, and has to have in the end."""
        self.operations = asyncio.Lock()
        """Held by what an operator does one after the other: deploys, reloads, scaling."""
        self.masters = asyncio.Lock()
        """Held while one is killed, until the next one answers."""
        self.victims: set[int] = set()
        """The processes that were killed, or stopped for so long that the master may kill them."""
        self.inflicted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """What clusterd was asked for and could not do, since something else had been done to it."""
        self._source = source
        self._version = 0

    # ---- who there is

    def worker(self) -> int | None:
        """A worker in any state."""
        return self.process("clusterd: worker")

    def process(self, title: str) -> int | None:
        """A process with this in its title."""
        pids = titled(self.service, title)
        return self.random.choice(pids) if pids else None

    def everyone(self) -> list[int]:
        """All processes but the master."""
        return self.service.family

    # ---- what is done

    def kill(self, pid: int | None, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process that may have ended."""
        if pid is None:
            return
        if number in (signal.SIGKILL, signal.SIGSTOP):
            self.victims.add(pid)
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    async def command(self, command: str, **arguments: object) -> bool:
        """Ask for something, as clusterctl does, and return whether it was done."""
        try:
            answer = await asyncio.to_thread(self.service.ask_to, command, **arguments)
        except (OSError, IndexError) as error:
            # The connection ended without an answer, such as while the master has no descriptors, or when it died.
            self.refused[f"{command}: {type(error).__name__}"] += 1
            return False
        if not answer.get("succeeded"):  # The last that a master has said may be how far it was.
            self.refused[command] += 1
        return bool(answer.get("succeeded"))

    async def request(self, path: str) -> None:
        """Ask the application for what costs it a worker. There is no answer."""
        with socket.socket() as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(ASKED_SECONDS):
                    await loop.sock_connect(client, ("127.0.0.1", self.service.port))
                    await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    await loop.sock_recv(client, 1)
            except OSError:
                pass  # A reset, or another fault was faster.

    def deploy(self, source: str | None = None, *, broken: bool = False) -> None:
        """Put an application on disk: this one, or the good one, whose second worker may be `broken`."""
        self._version += 1
        self.service.deploy(str(self._version), source or f"BROKEN = {broken}\n{self._source}")

    # ---- what is left

    def files(self) -> set[str]:
        """What there is in the service's directory, and in the one for temporary files."""
        return {str(path) for path in Path(self.service.directory).rglob("*") if "__pycache__" not in path.parts}
