"""Connections move back and forth between two processes while their clients never pause."""

import asyncio
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.wire.packets import socketpair
from clusterd.worker.draining.handover import Receiver, Sender
from tests.support.serving import Ledger, lines_of_head, request
from tests.support.settings import http_settings

CLIENTS = 16
MOVES = 20


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("X-Pid", str(os.getpid()))])
    return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]


def run_worker(
    threads: int, listener: socket.socket | None, ends: tuple[socket.socket, socket.socket], ready: int
) -> None:
    """Serve; with SIGUSR1, pass on whatever comes to rest through the first end; take over from the second.

    A byte goes to `ready` once the signals can be sent.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    senders: list[Sender] = []
    ledger = Ledger()

    def pass_on(connection: Connection) -> None:
        senders[0].pass_on(connection)

    engine = Engine(application, http_settings(threads=threads), ledger, ledger, loop, Callbacks(pass_on))
    Receiver(ends[1], loop, engine.adopt, lambda _: None)
    senders.append(Sender(ends[0], loop, lambda: None, lambda: None))

    def accept() -> None:
        assert listener is not None
        engine.adopt(listener.accept()[0])

    def tick() -> None:
        engine.tick(time.monotonic())
        loop.call_later(0.1, tick)

    if listener is not None:
        loop.add_reader(listener.fileno(), accept)
    loop.add_signal_handler(signal.SIGUSR1, engine.retirement.hand_over)
    loop.add_signal_handler(signal.SIGUSR2, engine.retirement.take_back)
    tick()
    os.write(ready, b".")
    engine.run()


def ask(address: Any, name: int, over: threading.Event, answers: list[set[str]], failures: list[str]) -> None:
    pids = set()
    try:
        with socket.create_connection(address, timeout=20) as sock, sock.makefile("rb") as file:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in itertools.count():
                if over.is_set():
                    break
                body = b"b" * (number % 7)
                data = request(f"/{name}/{number}", method="POST", body=body)
                sock.sendall(data[:20])
                sock.sendall(data[20:])
                fields = dict(line.decode().strip().partition(": ")[::2] for line in lines_of_head(file))
                assert file.read(int(fields["Content-Length"])) == f"/{name}/{number}".encode() + body
                pids.add(fields["X-Pid"])
    except Exception as error:
        failures.append(repr(error))
    answers.append(pids)


@pytest.mark.parametrize("threads", [0, 4])
def test_no_request_is_lost_while_connections_move(threads: int) -> None:
    there, back = socketpair(), socketpair()
    is_ready, ready = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.setblocking(False)
        workers: list[int] = []
        for number in range(2):
            pid = os.fork()
            if pid == 0:
                ends = (there[0], back[1]) if number == 0 else (back[0], there[1])
                try:
                    run_worker(threads, listener if number == 0 else None, ends, ready)
                finally:
                    os._exit(1)
            workers.append(pid)
        answers: list[set[str]] = []
        failures: list[str] = []
        over = threading.Event()
        clients = [
            threading.Thread(target=ask, args=(listener.getsockname(), name, over, answers, failures))
            for name in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for _ in workers:
            os.read(is_ready, 1)
        for _ in range(MOVES):
            for giver, taker in (workers, workers[::-1]):
                os.kill(taker, signal.SIGUSR2)
                os.kill(giver, signal.SIGUSR1)
                over.wait(0.03)
        over.set()
        for client in clients:
            client.join(20)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    for end in (*there, *back):
        end.close()
    for descriptor in (is_ready, ready):
        os.close(descriptor)
    assert not failures
    assert any(len(pids) == 2 for pids in answers), "nothing moved"
