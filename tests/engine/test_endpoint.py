"""The master's endpoint over real sockets."""

import asyncio
import dataclasses
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from clusterd.log import Logger, Sink
from clusterd.master.admin import accepting
from clusterd.master.admin import exchanges as module
from clusterd.master.admin.endpoint import Endpoint, Pages
from clusterd.master.admin.exchanges import MAXIMUM_CONNECTIONS
from clusterd.master.health.readiness import Check
from clusterd.metrics.page.negotiation import Form, Page, Wanted


class Surroundings:
    """A master's pages, and the log."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.logged: list[str] = []
        self.wanted: list[Wanted] = []
        self.has_logged = asyncio.Event()
        self.log = Logger(Sink(lambda record: [line.encode() for line in record.lines()], self.take))
        self.checks = [Check("workers", passed=True, found="1 of 2 are ready")]
        overview = b"<!doctype html>", "default-src 'none'"
        self.pages = Pages(self.metrics, lambda: self.reason, lambda: self.checks, lambda: overview)

    def take(self, line: bytes) -> bool:
        self.logged.append(line.decode())
        self.has_logged.set()
        return True

    async def metrics(self, wanted: Wanted) -> Page:
        self.wanted.append(wanted)
        return Page("text/plain; version=0.0.4", "gzip" if wanted.compressed else None, b"metric 1\n" * 200_000)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[str, int]]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            endpoint = Endpoint(self.pages, [listener], self.log)
            endpoint.start()
            yield listener.getsockname()
            await endpoint.close()


def run(surroundings: Surroundings, scenario: Callable[[tuple[str, int]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with surroundings.serving() as address, asyncio.timeout(30):
            await scenario(address)

    asyncio.run(main())


async def exchange(address: tuple[str, int], request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, dict(line.split(b": ", 1) for line in lines), body


async def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[bytes, dict[bytes, bytes], bytes]:
    return await exchange(address, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


@pytest.fixture
def surroundings() -> Surroundings:
    return Surroundings()


def test_metrics_are_whole_and_as_the_client_wants_them(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        accepts = b"ACCEPT: text/plain;q=0.1 \r\nAccept:application/openmetrics-text\r\naccept-encoding: br, gzip\r\n"
        status, headers, body = await exchange(address, b"GET /metrics?name=x HTTP/1.1\r\nhost: x\r\n%s\r\n" % accepts)
        assert status == b"HTTP/1.1 200 OK"
        assert body == b"metric 1\n" * 200_000
        assert headers[b"Content-Length"] == b"1800000"
        assert headers[b"Content-Type"] == b"text/plain; version=0.0.4"
        assert headers[b"Content-Encoding"] == b"gzip"
        assert headers[b"Connection"] == b"close"
        assert b"Content-Encoding" not in (await get(address, "/metrics"))[1]
        assert surroundings.wanted == [Wanted(Form.OPENMETRICS, compressed=True), Wanted()]

    run(surroundings, scenario)


def test_probes(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        assert (await get(address, "/readyz"))[0] == b"HTTP/1.1 200 OK"
        surroundings.reason = "no worker is ready"
        status, _, body = await get(address, "/readyz")
        assert status == b"HTTP/1.1 503 Service Unavailable"
        assert body == b"no worker is ready\n"
        assert (await get(address, "/healthz"))[2] == b"ok\n"

    run(surroundings, scenario)


def test_readyz_lists_every_check_when_asked_to(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        status, _, body = await get(address, "/readyz?verbose")
        assert (status, body) == (b"HTTP/1.1 200 OK", b"[+]workers: 1 of 2 are ready\nready\n")
        surroundings.reason = "no worker is ready"
        surroundings.checks = [Check("service", True, "running"), Check("workers", False, "no worker is ready")]
        status, _, body = await get(address, "/readyz?verbose=1")
        assert status == b"HTTP/1.1 503 Service Unavailable"
        assert body == b"[+]service: running\n[-]workers: no worker is ready\nno worker is ready\n"
        assert (await get(address, "/readyz?other"))[2] == b"no worker is ready\n"

    run(surroundings, scenario)


def test_the_page_for_browsers_has_its_policy(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        _, headers, body = await get(address, "/")
        assert headers[b"Content-Type"] == b"text/html; charset=utf-8"
        assert headers[b"Content-Security-Policy"] == b"default-src 'none'"
        assert body == b"<!doctype html>"

    run(surroundings, scenario)


def test_head_has_the_headers_and_no_body(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        _, headers, body = await get(address, "/metrics", "HEAD")
        assert headers[b"Content-Length"] == b"1800000"
        assert body == b""

    run(surroundings, scenario)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1x\r\n\r\n", b"400"),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
    ],
)
def test_other_requests_are_refused(surroundings: Surroundings, request_bytes: bytes, status: bytes) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        line, headers, _ = await exchange(address, request_bytes)
        assert line.split()[1] == status
        assert (status == b"405") == (b"Allow" in headers)

    run(surroundings, scenario)


def test_a_page_that_fails_is_a_500_with_its_traceback_in_the_log(surroundings: Surroundings) -> None:
    async def fail(wanted: Wanted) -> Page:
        raise RuntimeError("broken")

    surroundings.pages = dataclasses.replace(surroundings.pages, metrics=fail)

    async def scenario(address: tuple[str, int]) -> None:
        assert (await get(address, "/metrics"))[0] == b"HTTP/1.1 500 Internal Server Error"
        assert surroundings.logged[0] == "metrics endpoint failed path=/metrics"
        assert surroundings.logged[-1] == "RuntimeError: broken"
        assert (await get(address, "/healthz"))[0] == b"HTTP/1.1 200 OK"

    run(surroundings, scenario)


def test_silent_clients_do_not_keep_a_probe_waiting(surroundings: Surroundings) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        silent = [await asyncio.open_connection(*address) for _ in range(MAXIMUM_CONNECTIONS + 5)]
        assert (await get(address, "/healthz"))[2] == b"ok\n"
        assert await silent[0][0].read() == b"", "the oldest was closed"
        for _, writer in silent:
            writer.close()

    run(surroundings, scenario)


def test_a_slow_client_is_closed(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCHANGE_SECONDS", 0.05)

    async def scenario(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HT")
        assert await reader.read() == b""
        writer.close()

    run(surroundings, scenario)


def test_out_of_descriptors_is_logged_once_a_pause_and_not_for_ever(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario(address: tuple[str, int]) -> None:
        with socket.socket() as client:
            client.setblocking(False)
            highest = os.dup(client.fileno())
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            try:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, address)
                await surroundings.has_logged.wait()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await loop.sock_sendall(client, b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 OK")
        assert surroundings.logged[0].startswith("metrics endpoint cannot accept reason=")

    run(surroundings, scenario)


def test_closing_drops_what_is_under_way(surroundings: Surroundings) -> None:
    async def main() -> None:
        async with surroundings.serving() as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"GET")
            await get(address, "/healthz")
        assert await reader.read() == b""
        writer.close()

    asyncio.run(main())
