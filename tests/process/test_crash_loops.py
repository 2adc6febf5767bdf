"""Workers that keep dying after they had been ready: restarted at once, within a limit."""

import re
import signal
from collections.abc import Callable

import pytest

from tests.support.clients import connect
from tests.support.crash_crowd import FRAGILE as CRASHING
from tests.support.crash_crowd import CrashCrowd, ask
from tests.support.following import Following
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

FRAGILE = (
    HELLO
    + """
hello = app
def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/kill"):
        os.kill(os.getpid(), int(environ["QUERY_STRING"]))
    if environ["PATH_INFO"] == "/exit":
        os._exit(3)
    return hello(environ, start_response)
"""
)


def kill_by_request(service: Service, path: str) -> None:
    with pytest.raises(OSError):
        service.get(path)


@pytest.mark.parametrize("threads", [0, 2])
def test_workers_that_had_been_ready_are_restarted_at_once(make_service: MakeService, threads: int) -> None:
    service = make_service(threads=threads)
    service.deploy("1", FRAGILE)
    service.start()
    for number in range(15):
        kill_by_request(service, ("/exit", f"/kill?{signal.SIGSEGV:d}", f"/kill?{signal.SIGKILL:d}")[number % 3])
    wait_until(lambda: service.log().count("worker failed:") == 15, "every death is in the log")
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert "trying again in" not in service.log()


def test_beyond_the_limit_a_restart_waits_for_a_second_at_most(make_service: MakeService) -> None:
    service = make_service(restarts={"burst": 2, "per": "1h"})
    service.deploy("1", FRAGILE)
    service.start()
    for _ in range(4):
        kill_by_request(service, "/exit")
    service.wait_for_line("worker failed: exit status 3; trying again in ")
    pauses = [float(pause) for pause in re.findall(r"trying again in ([\d.]+) s", service.log())]
    assert all(pause <= 2.0 for pause in pauses), pauses
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert service.reload().returncode == 0
    before = service.log().count("trying again in")
    for _ in range(2):
        kill_by_request(service, "/exit")
    service.wait_for_status("^Serving: 2 workers, generation 2; reloaded at ")
    assert service.log().count("trying again in") == before


CLIENTS = 12
KILLS = 16


def kill_in(service: Service, slot: int) -> int:
    """Have a request kill the worker in `slot`, as soon as it is what accepts a new connection; its pid."""

    def killed() -> int | None:
        with connect(service) as client:
            try:
                pid, found = ask(client, "/who")
            except ConnectionError:
                return None
            if found != slot:
                return None
            with pytest.raises(ConnectionError):
                ask(client, "/kill")
            return pid

    pid: int = wait_until(killed, f"a worker in slot {slot} is killed")
    return pid


@pytest.mark.parametrize("threads", [0, 4])
def test_only_what_dying_workers_held_is_lost_and_each_slot_is_tried_again_at_once(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(threads=threads)
    service.deploy("1", CRASHING)
    service.start()
    crowd, killed = CrashCrowd(service), set()
    with Following(service) as following, crowd.at_work(CLIENTS):
        for number in range(KILLS):
            crowd.wait_for_answers(10 * CLIENTS)
            killed.add(kill_in(service, number % 2 + 1))
        events = following.wait_for(lambda event: event["event"] in ("exit", "fork"), 2 + 2 * KILLS)[2:]
    exits, forks = events[::2], events[1::2]
    assert {event["pid"] for event in exits} == killed, "nothing dies but what is killed"
    # The master decides about both in one step: nothing that happens comes between them.
    assert [("exit", event["slot"]) for event in forks] == [(event["event"], event["slot"]) for event in exits]
    assert all(fork["event"] == "fork" for fork in forks)
    assert crowd.troubles == []
    begun = crowd.begun()
    for loss in crowd.losses:
        assert loss.holder in {None, *killed}, loss
        assert begun.get(loss.path) in {None, *killed}, loss
    assert len(crowd.losses) <= KILLS * CLIENTS, "a client loses one request by a death at most"
    assert "trying again in" not in service.log()


KILLS_ASGI = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError
    if scope["path"].endswith("/of death/%"):
        os._exit(3)
    body = f"{os.getpid()} {os.environ['CLUSTERD_WORKER']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
KILLS_WSGI = """
import os
def app(environ, start_response):
    if environ["PATH_INFO"] == "/of death/%":
        os._exit(3)
    start_response("200 OK", [])
    yield f"{os.getpid()} {os.environ['CLUSTERD_WORKER']}".encode()
    if environ["PATH_INFO"] == "/late":
        os._exit(4)
"""


@pytest.mark.parametrize(
    ("source", "threads", "path"),
    [(KILLS_WSGI, 0, "of%20death/%25"), (KILLS_WSGI, 2, "late"), (KILLS_ASGI, 0, "of%20death/%25")],
    ids=["loop", "thread", "asgi"],
)
def test_a_request_that_kills_is_named(make_service: MakeService, source: str, threads: int, path: str) -> None:
    service = make_service(threads=threads, root_path="/shop")
    service.deploy("1", source)
    service.start()
    with Following(service) as following:
        for number in range(1, 4):
            for _ in range(20):
                assert service.get("/shop/harmless").status_code == 200
            kill_by_request(service, f"/shop/{path}?secret={number}")
            following.wait_for(lambda event: event["event"] == "exit", number)
            following.wait_for(lambda event: event["event"] == "listening", 2 + number)
        [suspect] = following.wait_for(lambda event: event["event"] == "suspect")
    assert {key: suspect[key] for key in ("request", "deaths", "seconds")} == {
        "request": f"GET /shop/{path}",
        "deaths": 3,
        "seconds": 60,
    }
    service.wait_for_line(f"warning: 3 workers that died within 60 s had GET /shop/{path} in hand: it may be what ")
    assert service.log().count("in hand") == 1
    assert "harmless" not in service.log()
    assert "suspect" in service.clusterctl("events").stdout
