"""An ASGI application served by a whole clusterd: its lifespan, reloads, and what a drain waits for."""

import os
import signal
import socket
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.service import PATIENCE_SECONDS, Service, wait_until

MakeService = Callable[..., Service]

APPLICATION = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            if FAILS and event == "lifespan.startup":
                await send({"type": "lifespan.startup.failed", "message": "no database\\nat all"})
                return
            print(event, flush=True)
            await send({"type": event + ".complete"})
            if event == "lifespan.shutdown":
                return
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(10):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await asyncio.sleep(0.1)
        await send({"type": "http.response.body"})
        await asyncio.sleep(0.5)
        print("after the response", flush=True)
        return
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']} {os.environ['CLUSTERD_GENERATION']} VERSION".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})

FAILS = False
"""


def deploy(service: Service, version: str, *, fails: bool = False) -> None:
    service.deploy(version, APPLICATION.replace("FAILS = False", f"FAILS = {fails}"))


def test_an_asgi_application_is_recognised_and_reloaded(make_service: MakeService) -> None:
    service = make_service()
    deploy(service, "1")
    service.start()
    assert service.ask().version == "1"
    deploy(service, "2")
    assert service.reload().returncode == 0
    assert service.ask().version == "2"
    assert service.stop() == 0
    assert service.log().count("lifespan.startup") == 4
    assert service.log().count("lifespan.shutdown") == 4


def test_a_startup_that_fails_is_a_failed_boot_with_its_message(make_service: MakeService) -> None:
    service = make_service()
    deploy(service, "1")
    service.start()
    deploy(service, "2", fails=True)
    done = service.reload()
    assert done.returncode == 1
    assert "lifespan.startup: no database" in done.stderr
    assert service.ask().version == "1"


def test_a_drain_waits_for_the_response_and_for_what_comes_after_it(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"drain": "20s"})
    deploy(service, "1")
    service.start()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        received = client.recv(4096)
        service.signal(signal.SIGTERM)
        while data := client.recv(4096):
            received += data
        assert received.endswith(b"0\r\n\r\n")
        assert received.count(b"1\r\nx\r\n") == 10
    assert service.wait() == 0
    assert "after the response" in service.log()
    assert "lifespan.shutdown" in service.log()


def test_idle_connections_move_to_the_next_generation(make_service: MakeService) -> None:
    service = make_service(workers=1)
    deploy(service, "1")
    service.start()
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
        client.sendall(request)
        assert client.recv(4096).endswith(b" 1 1 1")
        deploy(service, "2")
        assert service.reload().returncode == 0
        wait_until(lambda: [w["generation"] for w in service.workers()] == [2], "the new generation serves")
        client.sendall(request)
        assert client.recv(4096).endswith(b" 1 2 2")


def test_the_interface_can_be_said(make_service: MakeService) -> None:
    service = make_service()
    deploy(service, "1")
    service.configure(interface="wsgi")
    service.start(wait=False)
    assert service.wait() == 70
    assert "is an ASGI application, and interface: says wsgi" in service.log()
    other = make_service(interface="asgi")
    deploy(other, "1")
    assert other.start().ask().version == "1"


WEBSOCKETS = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"] + " VERSION"})
        print(f"left with {message['code']}", flush=True)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"0 0 0 VERSION"})
"""


def test_websockets_are_told_to_come_back_after_a_reload_and_that_the_service_stops(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", WEBSOCKETS)
    service.start()
    for version, leave, code in (("1", service.reload, 1012), ("2", lambda: service.signal(signal.SIGTERM), 1001)):
        with connect(f"ws://127.0.0.1:{service.port}/", proxy=None) as client:
            client.send("hello")
            assert client.recv(PATIENCE_SECONDS) == f"hello {version}"
            service.deploy("2", WEBSOCKETS)
            leave()
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(PATIENCE_SECONDS)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == code
    assert service.wait() == 0
    assert "left with 1012" in service.log()
    assert "left with 1001" in service.log()
    assert "cut at the end" not in service.log()


SHUTS_DOWN_SLOWLY = """
import asyncio, pathlib

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("shutting down", flush=True)
    while not (pathlib.Path(__file__).parent / "may-end").exists():
        await asyncio.sleep(0.01)
    await send({"type": "lifespan.shutdown.complete"})
    print("shut down", flush=True)
"""


def test_a_worker_that_shuts_down_is_not_disturbed_by_being_told_again(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", SHUTS_DOWN_SLOWLY)
    service.start()
    pid = service.workers()[0]["pid"]
    os.kill(pid, signal.SIGTERM)
    service.wait_for_line("shutting down")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: service.log().count("SIGTERM received, draining") == 2, "it was told again")
    (service.directory / "may-end").touch()
    service.wait_for_line("shut down")
    service.wait_for_line(rf"worker failed: exit status 0 .*pid={pid}")
    assert "RuntimeError" not in service.log()
