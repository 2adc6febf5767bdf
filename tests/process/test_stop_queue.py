"""A stop and those who wait in the queue of a socket that ends with it: they are answered, later ones are refused."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clusterd.linux.listening import is_local, refuse_new, refuses_new
from tests.support.clients import REQUEST, answer
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

MakeService = Callable[..., Service]

SCHEDULINGS = ["least_connections", "shared", "round_robin"]
FAMILIES = ["ipv4", "ipv6", "unix"]

BLOCKS = """
import os, pathlib, time
HERE = pathlib.Path("DIRECTORY")
def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/block"):
        (HERE / environ["PATH_INFO"].replace("/block", "blocks")).touch()
        while not (HERE / "go").exists():
            time.sleep(0.01)
    body = os.environ["CLUSTERD_WORKER"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Place:
    """Where a service listens, as one who connects sees it."""

    def __init__(self, service: Service, family: str) -> None:
        self._family = {"ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}.get(family, socket.AF_INET)
        path = str(service.directory / "http.sock")
        host = "::1" if family == "ipv6" else "127.0.0.1"
        self._address: str | tuple[str, int] = path if family == "unix" else (host, service.port)
        texts = {"ipv6": f"[::1]:{service.port}", "unix": f"unix:{path}", "everywhere": f"0.0.0.0:{service.port}"}
        self.text = texts.get(family, f"127.0.0.1:{service.port}")

    def connect(self) -> socket.socket:
        sock = socket.socket(self._family)
        sock.settimeout(PATIENCE_SECONDS)
        try:
            sock.connect(self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    def refuses(self) -> bool:
        try:
            self.connect().close()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False


@contextmanager
def asked_anew(place: Place) -> Iterator[Counter[str]]:
    """Clients that ask on a new connection each time, until they are refused; what became of their requests."""
    seen: Counter[str] = Counter()

    def ask() -> None:
        while True:
            try:
                client = place.connect()
            except (ConnectionRefusedError, FileNotFoundError):
                return
            with client:
                try:
                    client.sendall(REQUEST)
                    answer(client)
                    seen["answered"] += 1
                except (OSError, AssertionError) as error:
                    seen[repr(error)] += 1

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    yield seen
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.mark.parametrize("family", [*FAMILIES, "everywhere"])
@pytest.mark.parametrize("scheduling", SCHEDULINGS)
def test_a_stop_under_load_resets_nobody(make_service: MakeService, scheduling: str, family: str) -> None:
    service = make_service(scheduling=scheduling)
    place = Place(service, family)
    service.configure(listen=[place.text])
    service.start()
    with asked_anew(place) as seen:
        wait_until(lambda: seen["answered"] > 100, "the load is on")
        assert service.stop() == 0
    assert set(seen) == {"answered"}, seen


@pytest.mark.parametrize("family", ["ipv4", "unix"])
@pytest.mark.parametrize("scheduling", SCHEDULINGS)
def test_who_waits_for_busy_workers_is_answered_and_later_ones_are_refused_meanwhile(
    make_service: MakeService, clients: ExitStack, scheduling: str, family: str
) -> None:
    """More clients than can be on their way to two workers, and no loop that turns: `threads: 0`."""
    service = make_service(scheduling=scheduling, threads=0)
    service.deploy("1", BLOCKS.replace("DIRECTORY", str(service.directory)))
    place = Place(service, family)
    service.configure(listen=[place.text])
    service.start()
    crowd = []
    for number in range(202):
        client = clients.enter_context(place.connect())
        client.sendall(REQUEST if number > 1 else REQUEST.replace(b"GET /", b"GET /block-%d" % number))
        crowd.append(client)
        if number <= 1:
            wait_until((service.directory / f"blocks-{number}").exists, "a worker is busy")
    service.signal(15)
    service.wait_for_line("new clients are refused")
    assert place.refuses()
    assert service.metrics("/readyz").text == "stopping\n", "a proxy must use another host from now on"
    (service.directory / "go").touch()
    for client in crowd:
        answer(client)
        client.close()
    assert service.wait() == 0


# ---- the socket itself


@contextmanager
def listening(family: str, directory: Path) -> Iterator[tuple[socket.socket, Callable[[], socket.socket]]]:
    """A listening socket, and what connects to it or raises."""
    kind = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6, "unix": socket.AF_UNIX}[family]
    with socket.socket(kind) as sock:
        sock.bind(str(directory / "sock") if family == "unix" else ("::1" if family == "ipv6" else "127.0.0.1", 0))
        sock.listen(16)
        sock.setblocking(False)
        address = sock.getsockname()

        def connect() -> socket.socket:
            client = socket.socket(kind)
            client.settimeout(PATIENCE_SECONDS)
            try:
                client.connect(address)
            except BaseException:
                client.close()
                raise
            return client

        yield sock, connect


@pytest.mark.parametrize("family", FAMILIES)
def test_a_socket_that_refuses_new_clients_keeps_its_queue(family: str, tmp_path: Path) -> None:
    with listening(family, tmp_path) as (sock, connect), ExitStack() as clients:
        waiting = [clients.enter_context(connect()) for _ in range(5)]
        assert not refuses_new(sock)
        refuse_new(sock)
        assert refuses_new(sock)
        with pytest.raises(ConnectionRefusedError):
            connect()
        for client in waiting:
            with sock.accept()[0] as server:
                server.sendall(b"x")
                assert client.recv(1) == b"x"
        with pytest.raises(OSError):
            sock.accept()


def test_which_clients_are_local(tmp_path: Path) -> None:
    for family in FAMILIES:
        with listening(family, tmp_path) as (sock, _):
            assert is_local(sock)
    for kind, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(kind) as sock:
            sock.bind((host, 0))
            assert not is_local(sock)
