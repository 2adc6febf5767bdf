"""What an idle kept-alive connection costs a worker: `idle_memory.py [CONNECTIONS]`.

Each connection has had a request answered. What is compared is the worker's proportional set size (proc(5)), which
counts what it shares with others only in part, before the connections were opened and while all of them are idle.
The kernel's own memory for a socket is not in it.
"""

import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.processes import proportional_set_size
from bench.scenarios.slow_clients import raise_descriptor_limit
from bench.subject import free_port, service

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


Connect = Callable[[], socket.socket]


def open_connections(connect: Connect, count: int, opened: ExitStack) -> None:
    """Each of them with a request answered."""
    for number in range(count):
        client = opened.enter_context(connect())
        client.sendall(REQUEST % number)
        answer = client.recv(4096)
        if not answer.endswith(b"hello"):
            raise AssertionError(f"a client got {answer!r}")


def cost(connections: int, *, secure: bool = False, **settings: Any) -> float:
    """Bytes for each of so many connections with these settings."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "hello.py").write_text(APPLICATIONS)
        port = free_port()
        if secure:
            certificate = make_certificate(directory)
            settings["tls"] = {"listen": [f"127.0.0.1:{port}"], "certificate": str(certificate)}
        with service(directory, workers=1, **settings) as subject:

            def connect() -> socket.socket:
                if secure:
                    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
                return socket.create_connection(("127.0.0.1", subject.port))

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            pid = int(subject.workers()[0]["pid"])
            with ExitStack() as opened:
                open_connections(connect, WARM_UP, opened)
            before = proportional_set_size(pid)
            with ExitStack() as opened:
                open_connections(connect, connections, opened)
                return (proportional_set_size(pid) - before) / connections


def make_certificate(directory: Path) -> Path:
    """One that nobody trusts, with its key in the same file."""
    path = directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=bench", "-keyout", str(path), "-out", str(directory / "public.pem")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (directory / "public.pem").read_text())
    return path


def all_kinds(connections: int) -> Iterator[tuple[str, float]]:
    """Every kind of application, and one over TLS."""
    raise_descriptor_limit()
    yield "WSGI on the loop", cost(connections, app="hello:wsgi", threads=0)
    yield "WSGI in threads", cost(connections, app="hello:wsgi", threads=4)
    yield "ASGI", cost(connections, app="hello:asgi", interface="asgi")
    yield "WSGI on the loop, over TLS", cost(connections, app="hello:wsgi", threads=0, secure=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CONNECTIONS
    for kind, size in all_kinds(count):
        print(f"{kind}: {size:.0f} bytes a connection, with {count} of them", flush=True)
