"""Clients of a service whose workers die, and what became of each request that they lost."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.clients import connect
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

FRAGILE = """
import os, time
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/kill":
        os._exit(3)
    begun = os.open(f"{os.path.dirname(__file__)}/begun.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(begun, f"{path}\\n".encode())
    os.close(begun)
    time.sleep(0.002)
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
"""Writes down which requests each worker has begun; one request ends the worker at once."""


@dataclass(frozen=True)
class Loss:
    """A request without an answer. `holder` is the worker that had answered the last one on its connection."""

    path: str
    how: str
    holder: int | None


def ask(client: socket.socket, path: str) -> tuple[int, int]:
    """The pid and the slot of the worker that answers. Raises OSError where none does, ValueError for an error."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    received = b""
    while b"\r\n\r\n" not in received or not received.partition(b"\r\n\r\n")[2]:
        chunk = client.recv(65536)
        if not chunk:
            raise ConnectionResetError(f"the end after {received!r}")
        received += chunk
    if not received.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"{received!r}")
    pid, slot = received.partition(b"\r\n\r\n")[2].split()
    return int(pid), int(slot)


def is_over(client: socket.socket) -> bool:
    """Whether the server has ended a connection that waits for the next request: then none is sent on it."""
    return bool(select.select([client], [], [], 0)[0])


@dataclass
class CrashCrowd:
    """Clients at work, half of them over connections that they keep."""

    service: Service
    answered: int = 0
    losses: list[Loss] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """What no death of a worker explains."""
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _number: int = 0

    @contextmanager
    def at_work(self, clients: int) -> Iterator[None]:
        """For the length of the block."""
        roles: list[Callable[[], None]] = [self._ask_anew, self._ask_on]
        threads = [threading.Thread(target=roles[number % 2]) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(PATIENCE_SECONDS)
                assert not thread.is_alive()

    def wait_for_answers(self, count: int) -> None:
        """Until they have so many more."""
        target = self.answered + count
        wait_until(lambda: self.answered >= target, "the clients are answered")

    def _ask_anew(self) -> None:
        while not self._over.wait(0.005):
            with connect(self.service) as client:
                self._ask(client, None)

    def _ask_on(self) -> None:
        while not self._over.is_set():
            with connect(self.service) as client:
                holder = self._ask(client, None)
                while holder is not None and not self._over.wait(0.005) and not is_over(client):
                    holder = self._ask(client, holder)

    def _ask(self, client: socket.socket, holder: int | None) -> int | None:
        with self._lock:
            self._number += 1
            path = f"/{self._number}"
        try:
            pid, _ = ask(client, path)
        except (ConnectionResetError, BrokenPipeError) as error:
            self.losses.append(Loss(path, repr(error), holder))
            return None
        except (OSError, ValueError) as error:
            self.troubles.append(f"{path}: {error!r}")
            return None
        with self._lock:
            self.answered += 1
        return pid

    def begun(self) -> dict[str, int]:
        """The worker that began each request, by its path."""
        return {
            path: int(written.suffix[1:])
            for written in Path(self.service.directory).glob("begun.*")
            for path in written.read_text().split()
        }
