"""Counters under everything that happens to workers: none goes back, and requests counted are requests answered."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from random import Random

from tests.support.counted import Askers, Scraper
from tests.support.service import Service, wait_until
from tests.support.serving import request

MakeService = Callable[..., Service]

APPLICATION = """
import threading
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return held() if environ["PATH_INFO"] == "/held" else [b"ok"]
def held():
    yield b"o"
    threading.Event().wait(0.2)
    yield b"k"
"""
WORKERS = 2
ASKERS = 4


class World:
    """A service under load, and the events that befall it."""

    def __init__(self, service: Service, askers: Askers, scraper: Scraper) -> None:
        self._service = service
        self._askers = askers
        self._scraper = scraper
        self.aborted = 0
        self.refused = 0
        self.killed = 0
        self._sizes = cycle((WORKERS + 1, WORKERS))

    def reload(self) -> None:
        assert self._service.reload().returncode == 0

    def scale(self) -> None:
        size = next(self._sizes)
        assert self._service.clusterctl("scale", str(size)).returncode == 0
        wait_until(lambda: len(self._service.workers()) == size, "the workers are as many as wanted")

    def restart(self) -> None:
        assert self._service.clusterctl("restart", "1").returncode == 0

    def refuse(self) -> None:
        with self._askers.connect() as client:
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            self._askers.note(client.answer().status)
            self.refused += 1

    def abort(self) -> None:
        before = self._scraper.total("clusterd_http_client_aborts_total")
        with self._askers.connect() as client:
            client.send(request("/held"))
            assert client.answer_head().status == 200
            client.reset()
        self.aborted += 1
        done = "clusterd_http_client_aborts_total"
        wait_until(lambda: self._scraper.total(done) == before + 1, "the abort is counted")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        self._end(signal.SIGSTOP)

    def _end(self, number: int) -> None:
        """Send a signal that ends a worker, by itself or because it then hangs, and wait for its successor."""
        victim = self._service.workers()[0]
        size = len(self._service.workers())
        self.killed += 1
        os.kill(victim["pid"], number)

        def is_replaced() -> bool:
            pids = [worker["pid"] for worker in self._service.workers()]
            return len(pids) == size and victim["pid"] not in pids

        wait_until(is_replaced, "another worker serves in its slot")

    def mixed(self, *kinds: tuple[Callable[[], None], int]) -> None:
        """Have these events happen so many times each, in an order that is the same in each run."""
        events = [event for event, times in kinds for _ in range(times)]
        Random(13).shuffle(events)
        for event in events:
            event()


@contextmanager
def under_load(make_service: MakeService) -> Iterator[tuple[World, Askers, Scraper]]:
    service = make_service(workers=WORKERS, threads=2, timeouts={"hang": "2s"}, rollout={"settle": "0s"})
    service.deploy("1", APPLICATION)
    service.start()
    scraper = Scraper(f"http://127.0.0.1:{service.metrics_port}/metrics")
    with scraper.running(), Askers(service.port, ASKERS) as askers:
        yield World(service, askers, scraper), askers, scraper
    wait_until(lambda: not any(worker["in_flight"] for worker in service.workers()), "no request is in flight")
    assert scraper.total("clusterd_http_threads_busy") == 0
    assert scraper.faults == []
    assert askers.answered[200] > 100


def counted(scraper: Scraper) -> float:
    return scraper.total("clusterd_http_requests_total")


def test_every_answer_is_counted_once_while_workers_come_and_go(make_service: MakeService) -> None:
    with under_load(make_service) as (world, askers, scraper):
        world.mixed((world.reload, 4), (world.scale, 6), (world.restart, 3), (world.refuse, 6), (world.abort, 6))
    assert askers.lost == 0
    assert counted(scraper) == askers.answered.total() + world.aborted
    assert scraper.total("clusterd_http_refused_total", reason="bad_request") == world.refused == askers.answered[400]
    durations = scraper.total("clusterd_http_request_duration_seconds_count")
    assert durations == counted(scraper) - world.refused
    restarts = "clusterd_worker_restarts_total"
    assert scraper.total(restarts, asked="no") == 0
    assert scraper.total(restarts, reason="restart") == 3
    assert scraper.total(restarts, reason="scale") == 3
    assert scraper.total(restarts, reason="rollout") >= 4 * WORKERS


def test_no_counter_goes_back_while_workers_die(make_service: MakeService) -> None:
    with under_load(make_service) as (world, askers, scraper):
        world.mixed((world.kill, 16), (world.hang, 2), (world.reload, 2), (world.scale, 4), (world.refuse, 3))
    # A worker writes a response and then counts it: one that is killed in between has one that it has not counted.
    assert askers.answered.total() - world.killed <= counted(scraper) <= askers.answered.total() + askers.lost
    restarts = "clusterd_worker_restarts_total"
    assert scraper.total(restarts, asked="no") == world.killed
    assert scraper.total(restarts, reason="hang") == scraper.total("clusterd_http_timeouts_total", kind="hang") == 2
