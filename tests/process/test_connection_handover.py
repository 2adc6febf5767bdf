"""Kept-alive connections move between two processes under constant requests, and none is lost."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import lines_of_head

CLIENTS = 40
BEFORE, AFTER = 30, 60
"""Requests of each client before the hand-over is asked for, and from then on."""


class Peers:
    """`old`, which listens, and `new`, which only takes over."""

    def __init__(self, threads: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address: tuple[str, int] = listener.getsockname()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with listener, ours, theirs:
            self.old = self._start("old", ours, listener.fileno(), threads)
            self.new = self._start("new", theirs, -1, threads)

    def _start(self, name: str, pair: socket.socket, listener: int, threads: int) -> "subprocess.Popen[bytes]":
        script = Path(__file__).parents[1] / "support/handover_peer.py"
        arguments = [name, str(pair.fileno()), str(listener), str(threads)]
        passed = [pair.fileno(), *([listener] if listener >= 0 else [])]
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=passed,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def hand_over(self) -> None:
        assert self.old.stdin is not None
        self.old.stdin.write(b"\n")
        self.old.stdin.flush()

    def end(self) -> None:
        for process in (self.old, self.new):
            _, errors = process.communicate(timeout=20)
            assert errors == b""
            assert process.returncode == 0


@pytest.fixture(params=[0, 4], ids=["loop", "threads"])
def peers(request: pytest.FixtureRequest) -> Iterator[Peers]:
    peers = Peers(request.param)
    yield peers
    for process in (peers.old, peers.new):
        if process.poll() is None:
            process.kill()
        process.communicate()


class Client:
    """A kept-alive connection that knows what each answer has to be."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")
        self.servers: list[str] = []

    def send(self, size: int = 0, body: bytes = b"") -> None:
        self.socket.sendall(b"POST /?%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, len(body), body))

    def receive(self, size: int = 0, body: bytes = b"") -> None:
        assert self.stream.readline() == b"HTTP/1.1 200 OK\r\n"
        fields = dict(line.rstrip().split(b": ") for line in lines_of_head(self.stream))
        assert int(fields[b"X-Peer"]) == self.socket.getsockname()[1]
        self.servers.append(fields[b"X-Server"].decode())
        content = b""
        while length := int(self.stream.readline(), 16):
            content += self.stream.read(length)
            assert self.stream.readline() == b"\r\n"
        assert self.stream.readline() == b"\r\n"
        assert content == b"%d:" % len(body) + bytes(size)

    def ask(self, size: int = 0, body: bytes = b"") -> None:
        self.send(size, body)
        self.receive(size, body)

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


def test_no_request_is_lost_while_connections_move(peers: Peers) -> None:
    clients = [Client(peers.address) for _ in range(CLIENTS)]
    warm = threading.Barrier(CLIENTS + 1)
    failures: list[BaseException] = []

    def work(client: Client, number: int) -> None:
        try:
            for step in range(BEFORE):
                client.ask(body=bytes(step))
            warm.wait(30)
            for step in range(AFTER):
                if number % 4 == 0:  # a large response: its last bytes are still in the sender when it ends
                    client.ask(size=700_000 if step % 8 == 0 else step)
                elif number % 4 == 1:  # pipelined: the second request is read with the first
                    client.send(body=b"first")
                    client.send(body=b"second")
                    client.receive(body=b"first")
                    client.receive(body=b"second")
                elif number % 4 == 2:  # a body in the making while the hand-over begins
                    client.ask(body=bytes(100_000))
                else:
                    client.ask()
        except BaseException as error:  # shown by the test
            failures.append(error)
            warm.abort()
        finally:
            client.close()

    threads = [threading.Thread(target=work, args=pair) for pair in zip(clients, range(CLIENTS), strict=True)]
    for thread in threads:
        thread.start()
    try:
        warm.wait(30)
        peers.hand_over()
    except threading.BrokenBarrierError:
        pass
    for thread in threads:
        thread.join()
    assert failures == []
    for client in clients:
        assert client.servers[:BEFORE] == ["old"] * BEFORE
        assert client.servers[-1] == "new"
        moved = client.servers.index("new")
        assert set(client.servers[moved:]) == {"new"}
    peers.end()


def test_silent_idle_and_half_sent_connections_move(peers: Peers) -> None:
    silent, idle, half, body = (Client(peers.address) for _ in range(4))
    idle.ask()
    half.ask()
    half.socket.sendall(b"POST /?1 HT")
    body.socket.sendall(b"POST /?2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
    idle.ask()  # and with it, what was sent before has arrived
    peers.hand_over()
    half.socket.sendall(b"TP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    half.receive(size=1)
    body.socket.sendall(b"llo")
    body.receive(size=2, body=b"hello")
    for client in (silent, idle, half, body):
        for _ in range(50):
            client.ask()
            if client.servers[-1] == "new":
                break
        assert client.servers[-1] == "new"
        client.close()
    assert "old" in body.servers
    peers.end()


def test_connections_that_arrive_while_handing_over_lose_nothing(peers: Peers) -> None:
    """Their requests wait in the socket before the old process looks at it for the first time."""
    first = Client(peers.address)
    first.ask()
    peers.old.send_signal(signal.SIGSTOP)
    clients = [Client(peers.address) for _ in range(30)]
    for client in clients:
        client.send(body=b"early")
    peers.hand_over()
    peers.old.send_signal(signal.SIGCONT)
    for client in clients:
        client.receive(body=b"early")
        client.ask()
    for client in [first, *clients]:
        client.ask()
        assert client.servers[-1] == "new"
        client.close()
    peers.end()
