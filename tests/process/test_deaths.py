"""Workers that die with requests in hand: each cause is found, and what it cost is told by name."""

import re
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from tests.process.test_memory import HANDSHAKE
from tests.support.clients import connect
from tests.support.following import Following
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]

DYING = """
import ctypes, os, signal, threading, time
begun = threading.Event()

def die(how):
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "hang":
        while True:
            time.sleep(0.1)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

def app(environ, start_response):
    how = environ["PATH_INFO"].strip("/")
    if how == "held":
        begun.set()
        threading.Event().wait()
    if how:
        begun.wait()
        die(how)
    start_response("200 OK", [])
    return [b"fine"]
"""
DYING_ON_LOOP = DYING.replace("        begun.wait()\n", "")
DYING_ASGI = """
import asyncio, ctypes, os, signal, time
begun = asyncio.Event()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()
    how = scope["path"].strip("/")
    if how == "held":
        begun.set()
        await asyncio.Event().wait()
    if how:
        await begun.wait()
        {"exit": lambda: os._exit(3), "segfault": lambda: ctypes.string_at(0), "hang": lambda: time.sleep(1000),
         "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}[how]()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"fine"})
"""
CAUSES = {"exit": "exit", "segfault": "signal", "hang": "hang", "kill": "signal"}


@contextmanager
def asked(service: Service, *paths: str) -> Iterator[None]:
    """Have these requests under way, each of which is lost."""

    def ask(path: str) -> None:
        with pytest.raises(requests.RequestException):
            service.get(path)

    with ThreadPoolExecutor(len(paths)) as pool:
        lost = [pool.submit(ask, path) for path in paths]
        yield
        for each in lost:
            each.result()


def lost_of(service: Service) -> dict[str, float]:
    """The requests that slot 1 has lost, by reason; only what is not 0."""
    found = re.findall(r'clusterd_http_lost_total\{reason="(\w+)",worker="1"\} ([\d.]+)', service.metrics().text)
    return {reason: float(value) for reason, value in found if float(value)}


def lines_of(service: Service) -> list[dict[str, str]]:
    """The fields of the log lines of lost requests."""
    found = re.findall(r"request lost with its worker (.*)", service.log())
    return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in found]


def exit_of(following: Following) -> dict[str, Any]:
    [event] = following.wait_for(lambda event: event["event"] == "exit")
    return event


@pytest.mark.parametrize("how", CAUSES)
@pytest.mark.parametrize(("source", "threads"), [(DYING, 2), (DYING_ASGI, 0)], ids=["threads", "asgi"])
def test_a_death_says_what_it_was_and_what_it_cost(
    make_service: MakeService, source: str, threads: int, how: str
) -> None:
    service = make_service(workers=1, threads=threads, timeouts={"hang": "1s"})
    service.deploy("1", source)
    service.start()
    with Following(service) as following:
        with asked(service, "/held?secret=1", f"/{how}"):
            event = exit_of(following)
        assert (event["cause"], event["lost"]) == (CAUSES[how], 2)
        told = {(each["method"], each["target"], each["state"]) for each in event["requests"]}
        assert told == {("GET", "/held", "lost"), ("GET", f"/{how}", "lost")}
        assert all(each["peer"].startswith("127.0.0.1:") and each["age"] > 0 for each in event["requests"])
    lines = wait_until(lambda: len(found := lines_of(service)) == 2 and found, "both are in the log")
    assert {(line["target"], line["reason"]) for line in lines} == {("/held", CAUSES[how]), (f"/{how}", CAUSES[how])}
    assert lost_of(service) == {CAUSES[how]: 2}
    assert "secret" not in service.log()


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_call_on_the_loop_is_named_and_with_its_query_where_that_is_asked_for(
    make_service: MakeService, how: str
) -> None:
    service = make_service(workers=1, threads=0, log={"targets": "full"})
    service.deploy("1", DYING_ON_LOOP)
    service.start()
    for _ in range(3):
        assert service.get("/").text == "fine"
    with Following(service) as following, asked(service, f"/{how}?key=1"):
        event = exit_of(following)
    assert [each["target"] for each in event["requests"]] == [f"/{how}?key=1"]
    assert lost_of(service) == {CAUSES[how]: 1}


def test_a_worker_that_somebody_kills_and_one_that_is_stopped_at_once_say_so(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=2)
    service.deploy("1", DYING)
    service.start()
    with Following(service) as following:
        with asked(service, "/held"):
            wait_until(lambda: "GET /held" in service.clusterctl("stacks", "1").stdout, "it is in hand")
            service.clusterctl("kill", "1", "--signal", "KILL")
            event = exit_of(following)
        assert (event["cause"], event["lost"], event["reason"]) == ("killed", 1, "killed")
        with asked(service, "/held"):
            wait_until(lambda: "GET /held" in service.clusterctl("stacks", "1").stdout, "it is in hand")
            service.clusterctl("stop", "--now")
    line = lines_of(service)[-1]
    assert (line["target"], line["reason"]) == ("/held", "stop")


@pytest.mark.parametrize(("source", "threads"), [(DYING, 2), (DYING_ASGI, 0)], ids=["threads", "asgi"])
def test_what_is_cut_at_the_end_of_a_drain_counts_as_lost(make_service: MakeService, source: str, threads: int) -> None:
    service = make_service(workers=1, threads=threads, timeouts={"drain": "300ms", "drain_idle": "0s"})
    service.deploy("1", source)
    service.start()
    with Following(service) as following, asked(service, "/held"):
        wait_until(lambda: "GET /held" in service.clusterctl("stacks", "1").stdout, "it is in hand")
        assert service.reload().returncode == 0
        event = exit_of(following)
    assert (event["cause"], event["lost"], event["reason"]) == ("drain", 1, "rollout")
    assert [each["target"] for each in event["requests"]] == ["/held"]
    assert lost_of(service) == {"drain": 1}
    assert lines_of(service) == [], "the worker has named it itself"
    service.wait_for_line("request cut at the end of the drain .*target=/held")


def test_a_websocket_is_called_so_and_is_not_lost(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", DYING_ASGI)
    service.start()
    with Following(service) as following, connect(service) as client:
        client.sendall(HANDSHAKE.replace(b"GET / ", b"GET /chat "))
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        with asked(service, "/held", "/exit"):
            event = exit_of(following)
    states = {each["target"]: each["state"] for each in event["requests"]}
    assert (states, event["lost"]) == ({"/chat": "websocket", "/held": "lost", "/exit": "lost"}, 2)
    service.wait_for_line("WebSocket lost with its worker .*target=/chat")


def test_a_request_whose_client_has_gone_is_named_but_not_lost(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=1, timeouts={"hang": "2s"})
    service.deploy("1", DYING.replace("        begun.wait()\n", ""))
    service.start()
    with Following(service) as following:
        with connect(service) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: "GET /hang" in service.clusterctl("stacks", "1").stdout, "it is in hand")
            # Reset: of a client that only closes its sending side, nobody can know whether it waits.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        event = exit_of(following)
    assert (event["cause"], event["lost"]) == ("hang", 0)
    assert [(each["target"], each["state"]) for each in event["requests"]] == [("/hang", "left")]
    assert lost_of(service) == {}


def test_only_the_oldest_are_named_and_all_are_counted(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"hang": "1h"})
    service.deploy("1", DYING_ASGI)
    service.start()
    clients = [connect(service) for _ in range(300)]
    try:
        for number, client in enumerate(clients):
            client.sendall(b"GET /held?%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        wait_until(lambda: service.workers()[0]["in_flight"] == len(clients), "all are in flight")
        with Following(service) as following:
            service.clusterctl("kill", "1", "--signal", "KILL")
            event = exit_of(following)
    finally:
        for client in clients:
            client.close()
    assert (event["lost"], len(event["requests"])) == (len(clients), 20)
    assert len(lines_of(service)) == 20
    service.wait_for_line("280 more requests lost with their worker")


def test_a_killed_template_or_idle_worker_costs_nothing(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.start()
    with Following(service) as following:
        service.clusterctl("kill", "1", "--signal", "KILL")
        event = exit_of(following)
    assert (event["cause"], event["lost"], event["requests"]) == ("killed", 0, [])
    assert lost_of(service) == {}
    assert event["signal"] == "SIGKILL"


HOOKS = """
from clusterd import cluster

@cluster.on("exit")
def exited(worker, code, signal):
    print("told", worker.cause, worker.lost, [each["target"] for each in worker.requests], flush=True)
"""


def test_hooks_are_told_what_a_death_has_cost(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=2, hooks="told")
    service.deploy("1", DYING)
    (service.directory / "told.py").write_text(HOOKS)
    service.start()
    with asked(service, "/held", "/exit"):
        pass
    line = service.wait_for_line(r"told exit 2 \[.*\]")
    assert "/held" in line
    assert "/exit" in line


STANDS = """
import time
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError
    if scope["path"] == "/stand":
        stand_still()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"fine"})

def stand_still():
    time.sleep(1.5)
"""


def test_a_loop_that_does_not_turn_is_named_once_with_its_stack_and_requests(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"stall": "500ms"})
    service.deploy("1", STANDS)
    service.start()
    assert service.get("/stand?secret=1").text == "fine"
    service.wait_for_line(r"an event loop has not turned for \d\.\d s")
    service.wait_for_line(r"which runs the event loop .*most recent call first")
    service.wait_for_line(r"GET /stand for \d\.\d+ s from 127\.0\.0\.1:\d+ \(request\)")
    assert service.get("/").text == "fine"
    assert service.log().count("has not turned") == 1
    assert "in stand_still" in service.log()
    assert "secret" not in service.log()


SLOW_THREAD = """
import time
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/slow":
        take_time()
    return [b"fine"]

def take_time():
    time.sleep(1.2)
"""
SLOW_TASK = STANDS.replace("import time", "import asyncio").replace("stand_still()", "await take_time()", 1)
SLOW_TASK = SLOW_TASK.replace("/stand", "/slow").replace(
    "def stand_still():\n    time.sleep(1.5)", "async def take_time():\n    await asyncio.sleep(1.2)"
)


@pytest.mark.parametrize(("source", "threads"), [(SLOW_THREAD, 2), (SLOW_TASK, 0)], ids=["threads", "asgi"])
def test_a_slow_request_is_logged_while_it_runs_and_at_its_end(
    make_service: MakeService, source: str, threads: int
) -> None:
    service = make_service(workers=1, threads=threads, log={"slow": "400ms"})
    service.deploy("1", source)
    service.start()
    assert service.get("/").text == "fine"
    assert service.get("/slow?secret=1").text == "fine"
    service.wait_for_line(r"a request is slow, most recent call last")
    service.wait_for_line(r"in take_time")
    line = service.wait_for_line(r"a slow request has ended .*target=/slow")
    spent = {name: float(value) for name, value in re.findall(r"(seconds|queue|application|client)=([\d.]+)", line)}
    assert spent["application"] >= 1.1
    assert spent["seconds"] == pytest.approx(sum(value for name, value in spent.items() if name != "seconds"), abs=0.01)
    assert service.log().count("a request is slow") == 1
    assert service.log().count("a slow request has ended") == 1
    assert "secret" not in service.log()


def test_a_slow_request_is_that_of_the_client_and_not_of_the_proxy(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=2, log={"slow": "400ms"}, trusted_proxies=["127.0.0.1"])
    service.deploy("1", SLOW_THREAD)
    service.start()
    assert service.get("/slow", headers={"X-Forwarded-For": "192.0.2.7"}).text == "fine"
    service.wait_for_line("a request is slow, .*target=/slow .*peer=192.0.2.7$")
    service.wait_for_line("a slow request has ended .*target=/slow .*peer=192.0.2.7$")


def test_a_request_that_waits_for_a_thread_says_so(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=1, log={"slow": "900ms"})
    service.deploy("1", SLOW_THREAD)
    service.start()
    with ThreadPoolExecutor(2) as pool:
        assert {each.text for each in pool.map(lambda _: service.get("/slow"), range(2))} == {"fine"}
    wait_until(lambda: service.log().count("a slow request has ended") == 2, "both are logged")
    queues = [float(value) for value in re.findall(r"slow request has ended .*queue=([\d.]+)", service.log())]
    assert min(queues) < 0.5 <= max(queues)
