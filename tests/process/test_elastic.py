"""`workers: {min: 1, max: 4}`: a burst finds the maximum, idleness the minimum, and no request is lost on the way."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.clients import REQUEST, answer, connect
from tests.support.controlling import done
from tests.support.counted import Scraper
from tests.support.following import Following
from tests.support.service import PATIENCE_SECONDS, Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

RANGE = {"min": 1, "max": 4, "shrink_after": "1s"}
CLIENTS = 64
BURNS = """
import os, time
def app(environ, start_response):
    until = time.thread_time() + (0.05 if os.path.exists("burn") else 0)
    while time.thread_time() < until:
        pass
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Clients:
    """Clients that ask again and again on a connection each, and rest for `pause` seconds in between."""

    def __init__(self, service: Service) -> None:
        self.pause = 0.0
        self.failures: list[str] = []
        self._service = service
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def _ask(self) -> None:
        try:
            with connect(self._service) as client:
                while not self._over.is_set():
                    client.sendall(REQUEST)
                    answer(client)
                    self._over.wait(self.pause)
        except (OSError, AssertionError) as error:
            self.failures.append(repr(error))

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


@contextmanager
def burning(service: Service) -> Iterator[None]:
    """Each request takes 50 ms of CPU for the length of the block."""
    mark = service.directory / "burn"
    mark.touch()
    yield
    mark.unlink()


def scaled_to(workers: int) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["event"] == "scale" and event["workers"] == workers


def events(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.clusterctl("events", "--json").stdout.splitlines()]


def scraper_of(service: Service) -> Scraper:
    return Scraper(f"http://127.0.0.1:{service.metrics_port}/metrics")


@pytest.mark.parametrize("threads", [4, 0])
def test_a_burst_finds_the_maximum_and_idleness_the_minimum_and_nothing_is_lost(
    make_service: MakeService, threads: int
) -> None:
    service = make_service(workers=RANGE, threads=threads)
    service.deploy("1", BURNS)
    service.start()
    service.wait_for_status(r"^Serving: 1 worker \(1 to 4\), generation 1$")
    with Following(service) as following, Clients(service) as clients:
        with burning(service):
            following.wait_for(scaled_to(4))
            service.wait_for_status(r"^Serving: 4 workers \(1 to 4\)")
            clients.pause = 0.25
        following.wait_for(scaled_to(1))
        service.wait_for_status(r"^Serving: 1 worker \(1 to 4\)")
    assert clients.failures == []
    scaled = [event for event in events(service) if event["event"] == "scale"]
    ups = [event["workers"] for event in scaled if event["workers"] > event["before"]]
    assert ups in ([2, 4], [2, 3, 4]), "two or three decisions find it"
    assert all(event["cause"] == "idle" for event in scaled if event["workers"] < event["before"])
    service.wait_for_line(r"4 workers wanted instead of [23]: .*(wait|busy)")
    service.wait_for_line(r"1 worker wanted instead of [23]: for 1 s at most \d+ % of them was used")
    scraper = scraper_of(service)
    assert scraper.total("clusterd_scalings_total") == len(scaled)
    assert scraper.total("clusterd_http_lost_total") == scraper.total("clusterd_worker_restarts_total", asked="no") == 0
    numbers = [scraper.total(f"clusterd_workers_{name}") for name in ("min", "wanted", "max", "elastic")]
    assert numbers == [1, 1, 4, 1]


def test_an_order_holds_until_it_is_taken_back(make_service: MakeService) -> None:
    service = make_service(workers=RANGE).start()
    until = "until `clusterctl scale auto` (1 to 4), the next reload or restart"
    assert done(service, "scale", "3")["text"] == f"3 workers wanted, {until}"
    service.wait_for_status(r"^Serving: 3 workers \(asked for, instead of 1 to 4\)")
    service.signal(signal.SIGTTIN)
    service.wait_for_line("4 workers wanted instead of 3: asked for; a reload, or `clusterctl scale auto`, lets")
    assert done(service, "scale", "6")["workers"] == 6
    service.wait_for_status(r"^Serving: 6 workers \(asked for, instead of 1 to 4\)")
    assert scraper_of(service).total("clusterd_workers_elastic") == 0
    assert done(service, "scale", "auto") == {
        "workers": 4,
        "text": "4 workers wanted, as the configuration says: 1 to 4",
    }
    with Following(service) as following:
        [event] = following.wait_for(scaled_to(1))
    assert event["cause"] == "idle"


def test_reloads_change_the_range_and_leave_it_and_return(make_service: MakeService) -> None:
    service = make_service(workers=3).start()
    assert done(service, "scale", "5")["workers"] == 5
    assert done(service, "scale", "auto")["text"] == "3 workers wanted, as the configuration says: 3"
    with Following(service) as following:
        for workers, status, wanted in (
            ({"min": 1, "max": 2, "shrink_after": "1h"}, r"2 workers \(1 to 2\)", 2),
            ({"min": 4, "max": 5, "shrink_after": "1h"}, r"4 workers \(4 to 5\)", 4),
            (1, "1 worker", 1),
            ({"min": 1, "max": 2}, r"1 worker \(1 to 2\)", 1),
        ):
            service.configure(workers=workers)
            assert service.reload().returncode == 0
            service.wait_for_status(f"^Serving: {status}, generation")
            if wanted > 1:
                following.wait_for(lambda event: scaled_to(wanted)(event) and event["cause"] == "reload")  # noqa: B023
    service.configure(workers={"min": 5, "max": 2})
    assert "workers: min is 5 and max is 2: raise max, or lower min" in service.reload().stderr
