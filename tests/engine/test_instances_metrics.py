"""The relay of the instances' metrics over real sockets; docs/metrics.md has what it promises."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clusterd.instances import relay as module
from clusterd.instances.known import Places
from clusterd.instances.relay import Relay
from clusterd.log import Logger, Sink
from clusterd.master.admin.endpoint import Endpoint, Pages
from clusterd.master.health.readiness import Check
from clusterd.metrics.page.negotiation import Form, Page, Wanted
from tests.engine.test_endpoint import exchange

Scenario = Callable[[tuple[str, int]], Awaitable[None]]


OPENMETRICS = "application/openmetrics-text"


class Host:
    """A host with instances: their configurations, and the endpoints of those that run."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.places = Places(directory / "etc", directory / "run")
        self.logged: list[str] = []
        self._opened = opened
        self._endpoints: list[Endpoint] = []
        self._log = Logger(Sink(lambda record: [line.encode() for line in record.lines()], self._take))
        self.places.configurations.mkdir()

    def _take(self, line: bytes) -> bool:
        self.logged.append(line.decode())
        return True

    def configure(self, name: str, text: str = "app: a:b\n") -> None:
        (self.places.configurations / f"{name}.yaml").write_text(text)

    def listen(self, name: str) -> socket.socket:
        """The metrics socket of an instance, as its master makes it."""
        directory = self.places.runtime / f"clusterd-{name}"
        directory.mkdir(parents=True)
        listener = self._opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(directory / "metrics.sock"))
        listener.listen()
        listener.setblocking(False)
        return listener

    def runs(self, name: str, listener: socket.socket | None = None) -> None:
        """Let an instance answer with its name; call it in the scenario, where the loop runs."""

        async def metrics(wanted: Wanted) -> Page:
            return Page(wanted.form.value, "gzip" if wanted.compressed else None, name.encode() * 100_000)

        pages = Pages(
            metrics=metrics,
            not_ready=lambda: "not yet",
            checks=lambda: [Check("workers", False, "none")],
            overview=lambda: (f"<title>{name}</title>".encode(), "default-src 'none'"),
        )
        self._endpoints.append(Endpoint(pages, [listener or self.listen(name)], self._log))
        self._endpoints[-1].start()

    def ask(self, scenario: Scenario) -> None:
        """Run a scenario, which is given the relay's address."""

        async def main() -> None:
            listener = self._opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.setblocking(False)
            relay = Relay([listener], self._log, self.places)
            relay.start()
            async with asyncio.timeout(60):
                await scenario(listener.getsockname())
            await relay.close()
            for endpoint in self._endpoints:
                await endpoint.close()

        asyncio.run(main())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with ExitStack() as opened:
        yield Host(tmp_path, opened)


async def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    request = (
        f"{method} {path} HTTP/1.1\r\nHost: app1.example:8002\r\nAccept: {OPENMETRICS}\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    line, headers, body = await exchange(address, request.encode())
    return int(line.split()[1]), headers, body


def test_each_instance_answers_itself_at_its_path(host: Host) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        for name in ("shop", "blog"):
            host.configure(name)
            host.runs(name)
            status, headers, body = await get(address, f"/instances/{name}/metrics?name=x")
            assert (status, body) == (200, name.encode() * 100_000)
            assert headers[b"Content-Type"].decode() == Form.OPENMETRICS.value
            assert headers[b"Content-Encoding"] == b"gzip"
        assert (await get(address, "/instances/shop/readyz"))[::2] == (503, b"not yet\n")
        assert (await get(address, "/instances/shop/readyz?verbose"))[2] == b"[-]workers: none\nnot yet\n"
        assert (await get(address, "/instances/shop/"))[2] == b"<title>shop</title>"
        assert (await get(address, "/instances/shop/healthz"))[::2] == (200, b"ok\n")
        status, headers, body = await get(address, "/instances/shop/metrics", "HEAD")
        assert (status, headers[b"Content-Length"], body) == (200, b"400000", b"")

    host.ask(scenario)


def test_the_list_is_what_prometheus_takes_and_names_who_is_down_too(host: Host) -> None:
    host.configure("clusterd")
    host.configure("shop")
    host.configure("quiet", "app: a:b\nmetrics: off\n")
    host.configure("broken", "workers: [\n")
    (host.places.configurations / "clusterd.schema.json").write_text("{}")

    async def scenario(address: tuple[str, int]) -> None:
        status, headers, body = await get(address, "/instances")
        assert (status, headers[b"Content-Type"]) == (200, b"application/json")
        assert json.loads(body) == [
            {
                # As Prometheus has asked for it, which need not be on this host.
                "targets": ["app1.example:8002"],
                "labels": {"__metrics_path__": f"/instances/{name}/metrics", "clusterd_instance": name},
            }
            for name in ("broken", "shop")
        ]
        _, _, body = await exchange(address, b"GET /instances HTTP/1.0\r\n\r\n")
        assert json.loads(body)[0]["targets"] == [f"127.0.0.1:{address[1]}"]

    host.ask(scenario)


def test_an_instance_with_a_port_of_its_own_is_asked_there(host: Host) -> None:
    async def scenario(address: tuple[str, int]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            host.configure("shop", f"app: a:b\nmetrics: 127.0.0.1:{listener.getsockname()[1]}\n")
            host.runs("shop", listener)
            assert (await get(address, "/instances/shop/healthz"))[::2] == (200, b"ok\n")

    host.ask(scenario)


def test_one_that_is_down_is_said_to_be(host: Host) -> None:
    host.configure("shop")

    async def scenario(address: tuple[str, int]) -> None:
        status, _, body = await get(address, "/instances/shop/metrics")
        assert status == 502
        assert b"metrics.sock: No such file or directory; systemctl status clusterd@shop\n" in body

    host.ask(scenario)


def test_one_that_hangs_delays_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    host.configure("hangs")
    host.configure("shop")
    host.listen("hangs")

    async def scenario(address: tuple[str, int]) -> None:
        host.runs("shop")
        hanging = asyncio.create_task(get(address, "/instances/hangs/metrics"))
        assert (await get(address, "/instances/shop/healthz"))[0] == 200
        status, _, body = await hanging
        assert (status, b"no answer within 0.2 s" in body) == (504, True)

    host.ask(scenario)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/instances/nothing/metrics", 404),
        ("/instances/clusterd/metrics", 404),
        ("/instances/shop", 404),
        ("/instances/shop/metrics/x", 404),
        ("/instances/..%2Fetc%2Fshop/metrics", 404),
        ("/instances/%2E%2E/metrics", 404),
        ("/metrics", 404),
        ("http://x/instances", 400),
        ("/instances HTTP/1.1\r\nX: " + "x" * 9000, 431),
    ],
)
def test_what_is_not_there_is_refused(host: Host, target: str, status: int) -> None:
    host.configure("shop")

    async def scenario(address: tuple[str, int]) -> None:
        assert (await get(address, target))[0] == status

    host.ask(scenario)


def test_only_reading_is_relayed(host: Host) -> None:
    host.configure("shop")

    async def scenario(address: tuple[str, int]) -> None:
        assert (await get(address, "/instances/shop/metrics", "POST"))[0] == 400

    host.ask(scenario)
