"""One of the two servers of test_connection_handover: `python handover_peer.py NAME PAIR LISTENER THREADS`.

Accepts from the descriptor LISTENER, adopts what comes over the descriptor PAIR. A line on stdin begins the
hand-over; the process ends when stdin does and no connection is left.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import uvloop

from clusterd.http.engine import Callbacks, Connection, Engine
from clusterd.wire.connection_state import CarriedState
from tests.support.counting import CountsNothing
from tests.support.settings import http_settings, timeouts


class Quiet(CountsNothing):
    """Counts nothing; what is logged as an error goes to stderr, where the test finds it."""

    is_debugging = False

    def warning(self, message: str, /, **fields: object) -> None: ...

    def request(self, level: object, message: str, alike: str, fields: object = None) -> None: ...

    def debug(self, message: str, /, **fields: object) -> None: ...

    def error(self, message: str, /, **fields: object) -> None:
        print(message, fields, file=sys.stderr)


class Peer:
    def __init__(self, name: str, pair: socket.socket, listener: socket.socket | None, threads: int) -> None:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.name = name
        self.pair = pair
        self.listener = listener
        settings = http_settings(threads=threads, timeouts=timeouts(keepalive=600, header=600))
        quiet = Quiet()
        callbacks = Callbacks(self.move, lambda _: self.maybe_end())
        self.engine = Engine(self.application, settings, quiet, quiet, self.loop, callbacks)
        self.unacknowledged: deque[Connection] = deque()
        self.stopping = False
        pair.setblocking(False)
        self.loop.add_reader(pair.fileno(), self.receive)
        self.loop.add_reader(0, self.command)
        if listener is not None:
            listener.setblocking(False)
            self.loop.add_reader(listener.fileno(), self.accept)
        self.tick()

    def application(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        size = int(environ["QUERY_STRING"] or 0)
        start_response("200 OK", [("X-Server", self.name), ("X-Peer", environ["REMOTE_PORT"])])
        return [b"%d:" % len(body), bytes(size)]

    def accept(self) -> None:
        assert self.listener is not None
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.engine.adopt(sock)

    def command(self) -> None:
        if os.read(0, 1):
            if self.listener is not None:
                self.accept()  # what has been accepted by the kernel is not lost with the listener
                self.loop.remove_reader(self.listener.fileno())
                self.listener.close()
            self.engine.retirement.hand_over()
        else:
            self.loop.remove_reader(0)
            self.stopping = True
            self.maybe_end()

    def move(self, connection: Connection) -> None:
        state = json.dumps(connection.detach().to_json()).encode()
        try:
            socket.send_fds(self.pair, [state], [connection.fileno()])
        except BlockingIOError:
            connection.resume()
        else:
            self.unacknowledged.append(connection)

    def receive(self) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.pair, 1 << 16, 1)
            except BlockingIOError:
                return
            if not data:
                self.loop.remove_reader(self.pair.fileno())
                return
            if data == b"taken":
                self.unacknowledged.popleft().release()
                continue
            self.pair.send(b"taken")
            (descriptor,) = descriptors
            self.engine.adopt(socket.socket(fileno=descriptor), CarriedState.from_json(json.loads(data)))

    def tick(self) -> None:
        self.engine.tick(time.monotonic())
        self.loop.call_later(0.02, self.tick)

    def maybe_end(self) -> None:
        if self.stopping and not self.engine.load:
            self.loop.stop()


def main() -> None:
    name, pair, listener, threads = sys.argv[1:]
    listening = socket.socket(fileno=int(listener)) if int(listener) >= 0 else None
    peer = Peer(name, socket.socket(fileno=int(pair)), listening, int(threads))
    peer.loop.run_forever()
    peer.loop.close()


if __name__ == "__main__":
    main()
