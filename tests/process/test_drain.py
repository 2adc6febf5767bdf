"""The end of a drain: nothing is cut before it, and whatever is cut then is in the log."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import NAME, make_certificate
from tests.support.ports import free_port
from tests.support.service import HELLO, Service, wait_until
from tests.support.serving import Client, request

MakeService = Callable[..., Service]

STREAMS = """
import os, time
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    end = time.monotonic() + float(environ["QUERY_STRING"] or 0)
    while time.monotonic() < end:
        yield b"data: x\\n\\n"
        time.sleep(0.02)
    yield f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} VERSION".encode()
"""


def client_of(service: Service) -> Client:
    return Client(socket.create_connection(("127.0.0.1", service.port), timeout=30))


@pytest.mark.parametrize("stop", [False, True], ids=["reload", "stop"])
def test_what_takes_nearly_as_long_as_the_drain_is_not_cut(make_service: MakeService, stop: bool) -> None:
    service = make_service(timeouts={"drain": "1s", "drain_idle": "1s"})
    service.deploy("1", STREAMS)
    service.start()
    with client_of(service) as client:
        client.send(request("/?1.25"))
        client.answer_head()
        began = time.monotonic()
        client.chunk()
        time.sleep(0.3)  # the drain begins so late that the response ends in the last tenth of it
        service.signal(signal.SIGTERM if stop else signal.SIGHUP)
        chunks = list(iter(client.chunk, b""))
        assert time.monotonic() - began > 1.1
        assert chunks[-1].endswith(b" 1")
    if not stop:
        assert service.stop() == 0
    assert "request cut" not in service.log()


def test_what_is_cut_is_in_the_log(make_service: MakeService, tmp_path: Path) -> None:
    """A response; and over TLS, which cannot move, a part of a request. Who is idle there is told."""
    certificate, port = make_certificate(tmp_path / "certificates"), free_port()
    files = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
    service = make_service(
        workers=1,
        tls={"listen": [f"127.0.0.1:{port}"], **files},
        timeouts={"drain": "1s", "drain_idle": "1s"},
    )
    service.deploy("1", STREAMS)
    service.start()

    def secure() -> Client:
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        context = certificate.client()
        return Client(context.wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False))

    with client_of(service) as streams, secure() as half, secure() as idle:
        for each in (half, idle):
            each.get()
        half.send(request("/half")[:20])
        streams.send(request("/stream?60"))
        streams.answer_head()
        began = time.monotonic()
        service.signal(signal.SIGHUP)
        service.wait_for_line("worker ended.*reason=rollout")
        assert time.monotonic() - began >= 1.0
        assert idle.rest() == b""  # with a close_notify: without one, reading raises
        peer = half.socket.getsockname()
    service.wait_for_line("request cut at the end of the drain .*target=/stream")
    service.wait_for_line(f"connection cut at the end of the drain: .* peer={peer[0]}:{peer[1]}")


def test_a_worker_that_reads_its_orders_late_has_no_later_deadline(make_service: MakeService) -> None:
    """The machine is too busy to run it, say. The master kills what is left soon after the deadline that it has set."""
    service = make_service(workers=1, timeouts={"drain": "3s", "drain_idle": "3s"})
    service.deploy("1", STREAMS)
    service.start()
    (worker,) = service.workers()
    with client_of(service) as client:
        client.send(request("/stream?60"))
        client.answer_head()
        os.kill(worker["pid"], signal.SIGSTOP)
        service.signal(signal.SIGHUP)
        service.wait_for_line(f"worker draining .*pid={worker['pid']}")
        time.sleep(2.5)
        os.kill(worker["pid"], signal.SIGCONT)
        service.wait_for_line(f"worker ended.*pid={worker['pid']}")
    assert "request cut at the end of the drain" in service.log()
    assert "killing worker" not in service.log()


def test_a_retired_worker_that_may_have_to_come_back_is_not_at_the_end_of_a_drain(make_service: MakeService) -> None:
    timeouts = {"drain": "500ms", "drain_idle": "500ms"}
    service = make_service(preload=False, rollout={"settle": "2s"}, timeouts=timeouts)
    service.deploy("1", STREAMS)
    service.start()
    with client_of(service) as client, client_of(service) as other:
        for each in (client, other):  # one for each worker
            each.send(request("/?60"))
            each.answer_head()
        before = {worker["pid"] for worker in service.workers()}
        service.deploy("2", HELLO)
        service.signal(signal.SIGHUP)
        service.wait_for_status("1 of 2 workers replaced")
        # Without preloading the second successor imports what is on disk when its turn comes.
        service.deploy("3", "raise RuntimeError('broken')\n")
        service.wait_for_status("^Serving: 2 workers, generation 1.*FAILED.*broken")
        assert {worker["pid"] for worker in service.workers()} == before
        for each in (client, other):
            assert each.chunk()
    assert "request cut" not in service.log()
    assert all(Path(f"/proc/{pid}").exists() for pid in before)


CLEANS_UP = """
import asyncio, os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with open(f"ending-{os.environ['CLUSTERD_GENERATION']}", "w"):
            pass
        await asyncio.sleep(2)
        return await send({"type": "lifespan.shutdown.complete"})
    while scope["path"] == "/wait" and not os.path.exists("go"):
        await asyncio.sleep(0.01)
    body = os.environ["CLUSTERD_GENERATION"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": body})
"""


def test_a_worker_that_is_about_to_end_takes_nothing_over(make_service: MakeService) -> None:
    """The first generation hands a connection over to the second just when that one has handed over everything."""
    service = make_service(workers=1)
    service.deploy("1", CLEANS_UP)
    service.start()
    with client_of(service) as client:
        client.send(request("/wait"))
        wait_until(lambda: service.workers()[0]["in_flight"], "it is being answered")
        assert service.reload().returncode == 0
        assert service.reload().returncode == 0
        wait_until((service.directory / "ending-2").exists, "the second generation ends")
        (service.directory / "go").touch()
        assert client.answer().body == b"1"
        assert client.get().body in (b"1", b"3")
