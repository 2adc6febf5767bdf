"""Two hosts behind a proxy, and clients of the proxy whose every request is accounted for."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.support.ports import accepts
from tests.support.processes import descendants
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

APPLICATION = """
import os, time

JOURNAL = os.open(os.path.join(os.path.dirname(__file__), "journal"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

def app(environ, start_response):
    environ["wsgi.input"].read()
    token = environ["PATH_INFO"][1:]
    os.write(JOURNAL, f"{token}\\n".encode())
    time.sleep(0.03)
    answer = f"VERSION {token}".encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""
"""Writes down what it is asked, and takes long enough for it that something is always under way."""

NAMES = ("one", "two")
"""Of the hosts, in their answers."""

CLIENTS = 20
_THINK_SECONDS = 0.01
_BODY = b"x" * 100


@dataclass(frozen=True)
class Request:
    """One request of one client. Times by time.monotonic."""

    method: str
    kept: bool
    """Whether its connection is to be kept."""
    token: str
    """Its own, and begins with its method."""
    began: float

    def encoded(self) -> bytes:
        """As it is sent."""
        body = _BODY if self.method == "POST" else b""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        connection = "" if self.kept else "Connection: close\r\n"
        return f"{self.method} /{self.token} HTTP/1.1\r\nHost: x\r\n{connection}{length}\r\n".encode() + body


@dataclass(frozen=True)
class Loss:
    """A request without its answer."""

    request: Request
    ended: float
    how: str


class Clients:
    """Half of them GET and half of them POST, each half with kept connections and with one for each request."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count()
        self._over = threading.Event()
        self.losses: list[Loss] = []
        self.answered: Counter[str] = Counter()
        """Requests, by the host that has answered."""
        self.slowest = 0.0
        """Seconds that an answer took, since somebody has set this to 0."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    def end(self) -> None:
        """Finish what is under way."""
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    async def _all(self) -> None:
        await asyncio.gather(*map(self._client, range(CLIENTS)))

    async def _client(self, number: int) -> None:
        method, kept = ("GET", "POST")[number % 2], number // 2 % 2 == 0
        streams = None
        while not self._over.is_set():
            request = Request(method, kept, f"{method}-{next(self._numbers)}", time.monotonic())
            try:
                if streams is not None and streams[0].at_eof():
                    streams[1].close()  # closed between two requests, as a server may: nothing is lost by it
                    streams = None
                async with asyncio.timeout(PATIENCE_SECONDS):
                    streams = streams or await asyncio.open_connection("127.0.0.1", self._port)
                    is_last = await self._ask(request, *streams)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                self.losses.append(Loss(request, time.monotonic(), repr(error)))
                is_last = True
            if is_last and streams is not None:
                streams[1].close()
                streams = None
            await asyncio.sleep(_THINK_SECONDS)
        if streams is not None:
            streams[1].close()

    async def _ask(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection ends with this answer."""
        writer.write(request.encoded())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = head.split()[1]
        if status != b"200":
            raise ValueError(f"status {status.decode()}")
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        host, token = body.decode().split()
        if token != request.token:
            raise ValueError(f"the answer to {token}")
        self.answered[host] += 1
        self.slowest = max(self.slowest, time.monotonic() - request.began)
        return not request.kept or b"connection: close" in head


@dataclass(frozen=True)
class Toll:
    """What a fault of a host has cost. Seconds are from its beginning."""

    fault: str
    requests: int
    lost: tuple[Loss, ...]
    unseen: frozenset[str]
    """The tokens of those that no application has seen: the host had accepted their connections and nothing more."""
    last_loss: float
    slowest: float
    back: float
    """When the host answers again."""

    def __str__(self) -> str:
        ways = dict(Counter(f"{each.request.method} {each.how}" for each in self.lost))
        return (
            f"{self.fault}: {self.requests} requests, {len(self.lost)} lost ({len(self.unseen)} unseen), "
            f"the last after {self.last_loss:.2f} s; slowest {self.slowest:.2f} s, back after {self.back:.1f} s; {ways}"
        )


class Hosts:
    """Two services as two hosts, behind a proxy on a port; the first is the one that has faults."""

    def __init__(self, services: tuple[Service, Service], port: int) -> None:
        self._services = services
        self._host = services[0]
        self._port = port

    def seen(self) -> Counter[str]:
        """How often an application was asked for what, by token."""
        return _journal(self._services[0]) + _journal(self._services[1])

    @contextmanager
    def asked(self) -> Iterator[Clients]:
        """Clients that ask both hosts, by the proxy."""
        clients = Clients(self._port)
        try:
            wait_until(lambda: all(clients.answered[name] > 20 for name in NAMES), "both hosts answer")
            yield clients
        finally:
            clients.end()

    def stop(self) -> None:
        """As systemctl does."""
        assert self._host.stop() == 0

    def kill(self) -> None:
        """Every process of it at once."""
        # A template and the workers forked from it are a group; without the master they would drain.
        groups = {os.getpgid(pid) for pid in descendants(self._host.pid)}
        self._host.signal(signal.SIGKILL)
        for group in groups:
            os.killpg(group, signal.SIGKILL)
        self._host.wait()
        # The last of them to end is the last to hold its connections, and the socket that it listens on.
        wait_until(lambda: not accepts(self._host.port), "connections are refused")

    def toll(self, clients: Clients, name: str, fault: Callable[[], None], away: int = 0) -> Toll:
        """What it costs when `fault` ends the host, which is started again when the other one has answered so many
        requests (0: at once), and is through when it is asked again.
        """
        lost, answered, clients.slowest = len(clients.losses), clients.answered.total(), 0.0
        began = time.monotonic()
        fault()
        gone = time.monotonic()
        here, there = (clients.answered[each] for each in NAMES)
        wait_until(lambda: clients.answered[NAMES[1]] >= there + away, "the other host answers")
        self._start_again()
        wait_until(lambda: clients.answered[NAMES[0]] > here + 20, f"the host is asked again after it was {name}")
        back = time.monotonic() - began
        losses = tuple(clients.losses[lost:])
        unseen = frozenset(each.request.token for each in losses) - self.seen().keys()
        last = max((each.ended for each in losses), default=began) - began
        toll = Toll(name, clients.answered.total() - answered, losses, unseen, last, clients.slowest, back)
        print(toll)
        # What comes later finds the other host, except for one POST on each connection that the proxy has kept open: it
        # learns only then that this host is gone, and may not repeat it.
        late = [each.request for each in losses if each.request.began > gone]
        assert all(request.method == "POST" for request in late), losses
        assert len(late) <= CLIENTS, losses
        assert not _journal(self._services[1]).keys() & {each.request.token for each in losses}, losses
        return toll

    def _start_again(self) -> None:
        self._host.destroy()
        self._host.lines.clear()
        self._host.control.unlink(missing_ok=True)
        self._host.start()


def _journal(service: Service) -> Counter[str]:
    return Counter((service.directory / "journal").read_text().split())
