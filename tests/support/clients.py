"""Clients of a running service: connections that ask, and a load of them that tells what went wrong."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.service import PATIENCE_SECONDS, Service, wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)


def answer(client: socket.socket) -> str:
    """The body of the answer to a request that was sent. Raises AssertionError where there is none."""
    received = b""
    while b"\r\n\r\n" not in received or not received.partition(b"\r\n\r\n")[2]:
        chunk = client.recv(65536)
        assert chunk, f"the connection ended after {received!r}"
        received += chunk
    assert received.startswith(b"HTTP/1.1 200"), received
    return received.partition(b"\r\n\r\n")[2].decode()


def asking(service: Service, clients: ExitStack, count: int) -> list[socket.socket]:
    """Connections that have asked for something, one after the other."""
    made = []
    for _ in range(count):
        client = clients.enter_context(connect(service))
        client.sendall(REQUEST)
        made.append(client)
    return made


def slot_of(body: str) -> int:
    return int(body.split()[1])


class Load:
    """Clients that ask on a new connection each time, and some that keep theirs, until told to end."""

    def __init__(self, service: Service, kept: int) -> None:
        self.service = service
        self.over = threading.Event()
        self.failures: list[str] = []
        self.answered = 0
        self.generations: set[str] = set()
        roles = [self._ask_anew] * 4 + [self._ask_on] * kept
        self._threads = [threading.Thread(target=role) for role in roles]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _ask_anew(self) -> None:
        while not self.over.is_set():
            try:
                client = connect(self.service)
            except ConnectionRefusedError:
                if not self.over.is_set():
                    self.failures.append("refused")
                return
            with client:
                self._ask(client)

    def _ask_on(self) -> None:
        with connect(self.service) as client:
            while not self.over.is_set() and self._ask(client):
                self.over.wait(0.002)

    def _ask(self, client: socket.socket) -> bool:
        try:
            client.sendall(REQUEST)
            body = answer(client)
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))
            return False
        self.answered += 1
        self.generations.add(body.split()[2])
        return True


@contextmanager
def loaded(service: Service, kept: int = 4) -> Iterator[Load]:
    load = Load(service, kept=kept)
    try:
        wait_until(lambda: load.answered > 50, "the load is on")
        yield load
    finally:
        load.end()
