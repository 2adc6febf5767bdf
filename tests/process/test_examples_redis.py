"""The examples with Redis, each over two services that stand for two hosts, with Debian's redis-server."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import redis
import requests

from tests.support.examples import Example
from tests.support.neighbours import needs, neighbour
from tests.support.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent


class Redis:
    """A redis-server that may be killed and started again with what it has kept on disk."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.flag = f"--environment=REDIS_URL={self.url}"
        self._kept = ("--dir", str(directory), "--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._running = ExitStack()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", *self._kept]
        server: AbstractContextManager[None] = neighbour(command, self._is_loaded)
        self._running.enter_context(server)

    def _is_loaded(self) -> bool:
        """Whether it answers: at first it only says that it reads what it has kept."""
        with redis.Redis.from_url(self.url) as client:
            try:
                return client.ping() is True
            except redis.ConnectionError:
                return False

    def kill(self) -> None:
        self._running.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Redis]:
    needs("redis-server", "redis-server")
    made = Redis(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def store(server: Redis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


@pytest.fixture
def hosts(example: Example, server: Redis) -> Callable[..., tuple[Service, Service]]:
    """Two services of an example."""

    def start(path: str, *environment: str) -> tuple[Service, Service]:
        flags = [server.flag, *(f"--environment={each}" for each in environment)]
        first, second = (jobs_or_server(example(path, *flags)) for _ in range(2))
        return first.start(), second.start()

    return start


def jobs_or_server(service: Service) -> Service:
    """A service of `run:` has no address."""
    if "\nrun:" in f"\n{service.config.read_text()}":
        service.flags = service.flags[2:]
        assert service.flags[0] == "--metrics"
    return service


def answer(service: Service, client: requests.Session, posted: str | None = None) -> requests.Response:
    address, method = f"http://127.0.0.1:{service.port}/", "GET" if posted is None else "POST"
    return client.request(method, address, data=posted, timeout=PATIENCE_SECONDS, headers={"Connection": "close"})


@pytest.fixture
def client(clients: ExitStack) -> requests.Session:
    session = clients.enter_context(requests.Session())
    session.trust_env = False
    return session


def listening(store: redis.Redis) -> int:
    """How many connections listen to the broadcasts."""
    ((_, number),) = store.pubsub_numsub("broadcast")
    return int(number)


def test_a_session_is_the_same_on_every_host_and_outlives_redis(
    hosts: Callable[..., tuple[Service, Service]], server: Redis, client: requests.Session
) -> None:
    first, second = hosts("redis_sessions/clusterd.yaml")
    assert [answer(each, client).json()["visits"] for each in (first, second, first)] == [1, 2, 3]
    server.kill()
    away = answer(second, client)
    assert (away.status_code, away.headers["Retry-After"]) == (503, "2")
    # clusterd does not need Redis: it is ready, and it reloads.
    assert second.metrics("/readyz").status_code == 200
    assert second.reload().returncode == 0
    assert answer(second, client).status_code == 503
    server.start()
    assert [answer(each, client).json()["visits"] for each in (first, second)] == [4, 5]


def test_a_message_of_one_worker_reaches_the_workers_of_all_hosts(
    hosts: Callable[..., tuple[Service, Service]], server: Redis, store: redis.Redis, client: requests.Session
) -> None:
    services = hosts("redis_broadcast/clusterd.yaml")

    def both_listen() -> bool:
        return listening(store) == 2

    wait_until(both_listen, "both hosts listen")

    def is_known_everywhere(text: str) -> bool:
        """Whether each worker of each host has it: they are asked until all of them have answered."""
        for service in services:
            waiting = {each["pid"] for each in service.workers()}
            for _ in range(100):
                found = answer(service, client).json()
                if found["text"] != text:
                    return False
                waiting.discard(found["pid"])
                if not waiting:
                    break
            else:
                return False
        return True

    assert answer(services[0], client, "good morning").json() == {"hosts": 2}
    wait_until(lambda: is_known_everywhere("good morning"), "all workers have heard")
    server.kill()
    away = answer(services[1], client, "lost")
    assert away.status_code == 503
    assert services[1].reload().returncode == 0
    server.start()
    wait_until(both_listen, "both hosts listen again")
    assert answer(services[1], client, "good night").json() == {"hosts": 2}
    wait_until(lambda: is_known_everywhere("good night"), "all workers have heard")


def test_no_job_is_lost_when_workers_and_redis_are_killed(
    hosts: Callable[..., tuple[Service, Service]], server: Redis, store: redis.Redis
) -> None:
    store.xgroup_create("jobs", "workers", id="0", mkstream=True)  # as the first worker does, which may not have yet
    services = hosts("redis_jobs/clusterd.yaml", "JOBS_IDLE_MILLISECONDS=2000")
    numbers = {store.xadd("jobs", {"to": "2000000"}) for _ in range(60)}
    in_hand = wait_until(lambda: store.xpending_range("jobs", "workers", "-", "+", 9), "some are begun")
    os.kill(int(in_hand[0]["consumer"].rpartition("-")[2]), signal.SIGKILL)
    wait_until(lambda: store.hlen("jobs:results") > 9, "others go on")
    server.kill()
    for service in services:
        service.wait_for_line("no jobs: ")
    assert [service.metrics("/readyz").status_code for service in services] == [200, 200]
    assert services[0].reload().returncode == 0
    server.start()
    wait_until(lambda: store.hlen("jobs:results") == len(numbers), "all jobs are done")
    assert store.hgetall("jobs:results") == dict.fromkeys(numbers, "2000001000000")
    wait_until(lambda: store.xpending("jobs", "workers")["pending"] == 0, "none is in hand")
    assert store.xlen("jobs") == 0


def test_a_job_that_kills_its_workers_is_put_aside(
    hosts: Callable[..., tuple[Service, Service]], store: redis.Redis
) -> None:
    store.xgroup_create("jobs", "workers", id="0", mkstream=True)
    deadly = store.xadd("jobs", {"to": "no number"})
    for _ in range(6):  # as workers that had it and are dead
        store.xreadgroup("workers", "dead", {"jobs": ">"})
        store.xclaim("jobs", "workers", "dead", 0, [deadly])
    hosts("redis_jobs/clusterd.yaml", "JOBS_IDLE_MILLISECONDS=100")
    wait_until(lambda: store.hgetall("jobs:given-up") == {deadly: "{'to': 'no number'}"}, "it is put aside")
    assert store.xlen("jobs") == 0


def test_one_worker_leads_and_another_when_it_dies_or_stops(
    hosts: Callable[..., tuple[Service, Service]], server: Redis, store: redis.Redis
) -> None:
    services = hosts("redis_lock/clusterd.yaml", "LOCK_SECONDS=2")

    def leader_other_than(pids: set[int]) -> int:
        """The one of the last term, once it is none of these."""

        def found() -> int:
            last = store.lrange("leader:terms", -1, -1)
            return 0 if not last or int(last[0].split()[2]) in pids else int(last[0].split()[2])

        leader: int = wait_until(found, "another leads")
        return leader

    first = leader_other_than(set())
    os.kill(first, signal.SIGKILL)
    second = leader_other_than({first})
    held_by = next(each for each in services if second in [worker["pid"] for worker in each.workers()])
    (other,) = (each for each in services if each is not held_by)
    left = {worker["pid"] for worker in held_by.workers()}
    assert held_by.stop() == 0
    third = leader_other_than(left | {first})
    assert third in [worker["pid"] for worker in other.workers()]
    server.kill()
    other.wait_for_line("leads no longer")
    terms = len(re.findall("leads in term", other.log()))
    server.start()
    wait_until(lambda: len(re.findall("leads in term", other.log())) > terms, "it leads again")
    numbers = [int(line.split()[0]) for line in store.lrange("leader:terms", 0, -1)]
    assert numbers == sorted(set(numbers))
