"""A service leaves the rotation of load balancers, to stop or for a while: it says so first, and loses nothing."""

import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from clusterd.systemd.stopping import FLAG
from tests.support.controlling import done, refused
from tests.support.managed import ManagedService
from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]
MakeManaged = Callable[..., ManagedService]
SHORT = {"drain": "20s", "drain_idle": "300ms"}
WAITS = """
import os, time
def app(environ, start_response):
    while not os.path.exists("MAY_END"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def ready(service: Service) -> tuple[int, str]:
    """What /readyz says."""
    answer = service.metrics("/readyz")
    return answer.status_code, answer.text


@contextmanager
def kept(service: Service) -> Iterator[http.client.HTTPConnection]:
    """A connection that its client keeps."""
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    client.connect()
    try:
        yield client
    finally:
        client.close()


def ask(client: http.client.HTTPConnection, path: str = "/") -> bool:
    """Ask once. Returns whether the server keeps the connection."""
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    assert answer.status == 200
    return answer.getheader("Connection") != "close"


def is_kept(service: Service) -> bool:
    with kept(service) as client:
        return ask(client)


def test_a_stop_is_announced_and_everything_served_as_before_until_it_begins(make_service: MakeService) -> None:
    service = make_service(timeouts={**SHORT, "announce": "2s"}).start()
    with kept(service) as client, kept(service) as idle:
        assert ask(client) and ask(idle)
        service.signal(signal.SIGTERM)
        status, why = wait_until(lambda: (said := ready(service))[0] == 503 and said, "/readyz says it")
        assert (status, why) == (503, "leaving rotation\n")
        assert ask(client) and ask(idle)  # Kept, as before.
        assert service.get().status_code == 200  # New ones are accepted.
        assert "leaving the rotation of load balancers, stops at" in done(service, "status")["status"]
        wait_until(lambda: not ask(client), "the drain begins")
    assert service.wait() == 0
    log = service.log()
    assert log.index("leaving the rotation: everything is served as before for 2 s") < log.index("worker draining")
    assert "request cut" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_stop_in_a_hurry_is_not_announced(make_service: MakeService, number: signal.Signals) -> None:
    service = make_service(timeouts={**SHORT, "announce": "1h"}).start()
    service.signal(number)
    assert service.wait() == 0


def test_a_second_interrupt_ends_an_announcement(make_service: MakeService) -> None:
    service = make_service(timeouts={**SHORT, "announce": "1h"}).start()
    service.signal(signal.SIGTERM)
    wait_until(lambda: ready(service)[0] == 503, "it is announced")
    service.signal(signal.SIGINT)
    assert service.wait() == 0


def test_a_drained_service_closes_its_connections_and_goes_on(make_service: MakeService) -> None:
    service = make_service(timeouts={**SHORT, "announce": "1s"}).start()
    pids = {worker["pid"] for worker in service.workers()}
    with kept(service) as idle:
        assert ask(idle)
        assert done(service, "drain", "--wait")["text"].startswith("drained: nothing is left")
        assert idle.sock.recv(1) == b""  # It was closed after timeouts.drain_idle.
    assert ready(service) == (503, "out of rotation\n")
    with kept(service) as client:
        assert not ask(client)  # It is answered, and closed.
    assert done(service, "status")["rotation"] == "out"
    assert "clusterd_in_rotation 0.0" in service.metrics().text
    assert done(service, "undrain")["text"] == "in rotation again"
    assert ready(service) == (200, "ready\n")
    wait_until(lambda: is_kept(service), "connections are kept again")
    assert {worker["pid"] for worker in service.workers()} == pids
    assert done(service, "undrain")["text"] == "it was not drained"


def test_who_waits_is_told_what_is_left_after_too_long(make_service: MakeService) -> None:
    service = make_service(workers=1, timeouts={"drain": "2s", "drain_idle": "0s"})
    may_end = service.directory / "may_end"
    service.deploy("1", WAITS.replace("MAY_END", str(may_end)))
    service.start()
    with kept(service) as client:
        client.request("GET", "/")
        wait_until(lambda: service.workers()[0]["in_flight"], "it is in hand")
        assert "drained, but 1 request and 1 connection are left after timeouts.drain" in refused(
            service, "drain", "--wait"
        )
        again: list[str] = []
        waiting = threading.Thread(target=lambda: again.append(done(service, "drain", "--wait")["text"]))
        waiting.start()  # Who asks later has as much time as the first.
        may_end.touch()
        assert client.getresponse().status == 200  # Nothing was cut.
    waiting.join()
    assert again[0].startswith("drained: nothing is left")
    assert ready(service)[0] == 503


def test_who_waits_is_told_that_it_was_taken_back_or_that_the_service_stops(make_service: MakeService) -> None:
    service = make_service(timeouts={**SHORT, "announce": "1h"}).start()
    for command, why in (("undrain", "it was taken back"), ("stop", "clusterd stops")):
        told: list[str] = []
        waiting = threading.Thread(target=lambda told=told: told.append(refused(service, "drain", "--wait")))
        waiting.start()
        wait_until(lambda: ready(service)[0] == 503, "it is announced")
        if command == "undrain":
            done(service, "undrain")
        else:
            service.signal(signal.SIGTERM)
        waiting.join()
        assert told == [f"not drained: {why}\n"]
    assert "clusterd stops" in refused(service, "undrain")
    service.signal(signal.SIGQUIT)
    assert service.wait() == 0


def test_a_drained_service_stays_drained_through_a_reload_and_new_workers(make_service: MakeService) -> None:
    service = make_service(timeouts=SHORT).start()
    done(service, "drain")
    service.deploy("2", HELLO.replace("VERSION", "two"))
    assert service.reload().returncode == 0
    assert ready(service)[0] == 503
    for _ in range(4):
        with kept(service) as client:
            assert not ask(client)


def test_a_drained_service_stays_drained_when_its_master_dies_or_it_is_started_again(make_managed: MakeManaged) -> None:
    service = make_managed(timeouts=SHORT)
    service.start()
    done(service, "drain")
    before = service.seen().ready
    service.kill_the_master()
    wait_until(lambda: service.seen().ready > before, "the next master is ready")
    assert ready(service) == (503, "out of rotation\n")
    assert service.stop() == 0
    for left in service.directory.glob(f"{service.manager.name}*"):
        left.unlink()
    service.start()
    assert ready(service) == (503, "out of rotation\n")
    with kept(service) as client:
        assert not ask(client)
    done(service, "undrain")
    assert ready(service) == (200, "ready\n")


def test_a_master_that_dies_during_an_announcement_leaves_the_rest_of_it_to_the_next(make_managed: MakeManaged) -> None:
    service = make_managed(timeouts={**SHORT, "announce": "4s"})
    service.start()
    before = service.seen()
    service.signal(signal.SIGTERM)
    wait_until(lambda: ready(service)[0] == 503, "it is announced")
    assert (service.directory / "run" / FLAG).exists()  # If systemd starts no other master, the rest is ended.
    service.kill_the_master()
    wait_until(lambda: service.seen().ready > before.ready, "the next master is ready")
    assert ready(service)[0] == 503
    wait_until(lambda: service.seen().stopping > before.stopping, "it stops")


def test_a_job_has_nothing_to_drain(make_service: MakeService) -> None:
    service = make_service(app=None, run="job:run", listen=None)
    (service.directory / "job.py").write_text("from clusterd import worker\ndef run():\n    worker.stop_event.wait()\n")
    service.start(wait=False)
    service.wait_for_line("clusterd starts")
    wait_until(lambda: service.describe() is not None, "it answers")
    assert "run: serves no requests" in refused(service, "drain")
