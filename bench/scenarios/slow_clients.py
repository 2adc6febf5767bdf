"""Thousands of clients that never finish their headers, and a normal one: `slow_clients.py [CONNECTIONS [ROUNDS]]`.

Rounds without and with them alternate. It ends with status 1 when the normal client's median latency grows to more
than twice. The slow ones are a process of their own, each sending a byte of its headers a second.
"""

import random
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.subject import service

CONNECTIONS = 5000
ROUNDS = 5
ROUND_SECONDS = 3.0
MOST_THINK_SECONDS = 0.006
"""Who asks as soon as the last answer is there asks mostly when there is nothing else to be done."""
MOST_RATIO = 2.0
"""How much later a normal client may be answered. tests/process/test_hostile_clients.py sees to it too."""
TRICKLE_SECONDS = 1.0

_ROOT = Path(__file__).resolve().parents[2]

APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def hold(port: int, connections: int) -> None:
    """The slow clients, until standard input ends. Those that are cut off come again."""
    raise_descriptor_limit()
    clients = [slow_client(port) for _ in range(connections)]
    print("ready", flush=True)
    while not readable(sys.stdin.fileno(), 0.0):
        started = time.monotonic()
        for number, client in enumerate(clients):
            try:
                client.send(b"y")
            except OSError:
                client.close()
                clients[number] = slow_client(port)
            if number % 50 == 0:  # evenly, for a burst of them would be another test
                time.sleep(max(0.0, started + TRICKLE_SECONDS * number / connections - time.monotonic()))
        readable(sys.stdin.fileno(), max(0.0, started + TRICKLE_SECONDS - time.monotonic()))


def slow_client(port: int) -> socket.socket:
    """Connected, and not through with its headers."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
    return client


def readable(descriptor: int, seconds: float) -> bool:
    """Whether something is to be read, or the end."""
    return bool(select.select([descriptor], [], [], seconds)[0])


def raise_descriptor_limit() -> None:
    """To what the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def slow_clients(port: int, connections: int) -> Iterator[None]:
    """They are there, for the length of the block."""
    with process_of("bench.scenarios.slow_clients", "hold", port, connections):
        yield


@contextmanager
def process_of(module: str, *arguments: object) -> Iterator[None]:
    """Clients as a process of their own, which says when they are ready, until its standard input ends."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate()


def normal_client(port: int) -> socket.socket:
    """Connected."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def latency(client: socket.socket) -> float:
    """Of a request at any moment, in seconds."""
    think()
    return latency_now(client)


def think() -> None:
    """Wait, so that the next request comes at any moment."""
    time.sleep(random.uniform(0.0, MOST_THINK_SECONDS))


def latency_now(client: socket.socket) -> float:
    """Of a request, in seconds."""
    started = time.perf_counter()
    client.sendall(b"GET / HTTP/1.1\r\nHost: normal\r\n\r\n")
    answer = client.recv(4096)
    taken = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"hello"):
        raise AssertionError(f"the normal client got {answer!r}")
    return taken


def latencies(port: int) -> list[float]:
    """Of the requests of a round."""
    taken = []
    with normal_client(port) as client:
        end = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < end:
            taken.append(latency(client))
    return taken


def measure(connections: int, rounds: int, threads: int) -> float:
    """The ratio of the medians, with and without the slow clients."""
    without: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "hello.py").write_text(APPLICATION)
        with service(Path(name), app="hello:app", threads=threads) as subject:
            latencies(subject.port)
            for _ in range(rounds):
                without += latencies(subject.port)
                with slow_clients(subject.port, connections):
                    beside += latencies(subject.port)
    ratio = statistics.median(beside) / statistics.median(without)
    print(
        f"threads {threads}: median {statistics.median(without) * 1e6:.0f} us alone, "
        f"{statistics.median(beside) * 1e6:.0f} us beside {connections} slow clients: {ratio:.2f} times",
        flush=True,
    )
    return ratio


def main(connections: int, rounds: int) -> int:
    """Measure with the application on the loop and in threads; the exit status."""
    return int(max(measure(connections, rounds, threads) for threads in (0, 4)) > MOST_RATIO)


if __name__ == "__main__":
    if sys.argv[1:2] == ["hold"]:
        hold(int(sys.argv[2]), int(sys.argv[3]))
    else:
        numbers = [int(argument) for argument in sys.argv[1:]]
        sys.exit(main(*(numbers + [CONNECTIONS, ROUNDS][len(numbers) :])))
