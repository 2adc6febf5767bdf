"""What an idle kept-alive connection costs a worker: `idle_memory.py [CONNECTIONS]`.

Each connection has had a request answered. What is compared is the worker's proportional set size (proc(5)), which
counts what it shares with others only in part, before the connections were opened and while all of them are idle.
The kernel's own memory for a socket is not in it.
"""

import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.slow_clients import raise_descriptor_limit
from bench.subject import Service, service

CONNECTIONS = 5000
WARM_UP = 200
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nConnection: keep-alive\r\nCookie: session=%010d\r\n\r\n"
)

APPLICATIONS = """\
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
"""


def proportional_set_size(pid: int) -> int:
    """In bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


def open_connections(subject: Service, count: int, opened: ExitStack) -> None:
    """Each of them with a request answered."""
    for number in range(count):
        client = opened.enter_context(socket.create_connection(("127.0.0.1", subject.port)))
        client.sendall(REQUEST % number)
        answer = client.recv(4096)
        if not answer.endswith(b"hello"):
            raise AssertionError(f"a client got {answer!r}")


def measure(name: str, connections: int, **settings: Any) -> None:
    """Print what a connection costs with these settings."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "hello.py").write_text(APPLICATIONS)
        with service(Path(directory), workers=1, **settings) as subject:
            pid = int(subject.workers()[0]["pid"])
            with ExitStack() as opened:
                open_connections(subject, WARM_UP, opened)
            before = proportional_set_size(pid)
            with ExitStack() as opened:
                open_connections(subject, connections, opened)
                grown = proportional_set_size(pid) - before
    print(f"{name}: {grown / connections:.0f} bytes a connection, with {connections} of them", flush=True)


def main(connections: int) -> None:
    """Measure every kind of application."""
    raise_descriptor_limit()
    measure("WSGI on the loop", connections, app="hello:wsgi", threads=0)
    measure("WSGI in threads", connections, app="hello:wsgi", threads=4)
    measure("ASGI", connections, app="hello:asgi", interface="asgi")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS)
