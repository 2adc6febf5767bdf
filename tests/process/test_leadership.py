"""The event loop in the hands of a thread of the pool: as fast as on the loop, and never stuck with a call."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from random import Random, SystemRandom
from typing import Any

import pytest
import uvloop

from clusterd.http.connection_source import Arrival
from clusterd.http.wsgi.mailbox import Mailbox
from clusterd.http.wsgi.pool.pool_thread import PoolThread
from clusterd.http.wsgi.pool.thread_pool import ThreadPool
from clusterd.http.wsgi.runner import Runner
from clusterd.runtime.event_loop import new_event_loop
from tests.support.counting import CountsNothing
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

CLIENTS = 16
PIECE = bytes(range(256)) * 100


def is_lent(pool: ThreadPool) -> bool:
    """Whether the caller has been called by a thread that has the loop."""
    leader = pool.leader
    return leader is not None and leader.name == threading.current_thread().name


class Application:
    """Answers at once, or (/block) when it may, or (/large) with much. /where says who has the loop."""

    def __init__(self) -> None:
        self.blocks = threading.Event()
        self.may_end = threading.Event()
        self.threads: set[str] = set()
        self.pool: ThreadPool

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.threads.add(threading.current_thread().name)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # the application may run one of its own
        path = environ["PATH_INFO"]
        start_response("200 OK", [])
        if path == "/block":
            self.blocks.set()
            assert self.may_end.wait(PATIENCE)
        if path == "/large":
            return (PIECE for _ in range(100))
        if path == "/written":
            write = start_response("200 OK", [], (None, None, None))
            for _ in range(100):
                write(PIECE)
            return []
        return [b"lent" if is_lent(self.pool) else b"kept"]


@contextmanager
def served(application: Application, threads: int) -> Iterator[Serving]:
    with serving(application, threads=threads) as server:
        assert isinstance(server.engine.runners, ThreadPool)
        application.pool = server.engine.runners
        yield server


@pytest.fixture
def application() -> Iterator[Application]:
    application = Application()
    yield application
    application.may_end.set()


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ask_all(clients: list[Client]) -> list[bytes]:
    """One request of each at the same time."""
    for client in clients:
        client.send(request())
    return [client.answer().body for client in clients]


def lent_to_a_thread(server: Serving, crowd: ExitStack) -> list[Client]:
    """Clients that have asked until the loop was lent."""
    clients = [crowd.enter_context(server.client()) for _ in range(CLIENTS)]
    deadline = time.monotonic() + PATIENCE
    while b"lent" not in ask_all(clients):
        assert time.monotonic() < deadline, "the loop was never lent"
    return clients


def test_short_calls_are_made_by_a_thread_that_has_the_loop(application: Application, crowd: ExitStack) -> None:
    with served(application, 4) as server:
        clients = lent_to_a_thread(server, crowd)
        for _ in range(100):
            assert set(ask_all(clients)) <= {b"lent", b"kept"}
        assert all(name.startswith("clusterd-") for name in application.threads)
        assert server.ledger.errors == []


def test_who_has_nothing_to_do_returns_it(application: Application, crowd: ExitStack) -> None:
    with served(application, 4) as server:
        clients = lent_to_a_thread(server, crowd)
        wait_until(lambda: server.on_loop(threading.current_thread) is server.thread)
        assert clients[0].get().body == b"kept"


def test_a_call_that_takes_its_time_holds_up_nobody(application: Application, crowd: ExitStack) -> None:
    with served(application, 4) as server:
        clients = lent_to_a_thread(server, crowd)
        slow = crowd.enter_context(server.client())
        for _ in range(3):
            application.blocks.clear()
            application.may_end.clear()
            for client in clients:
                client.send(request())
            slow.send(request("/block"))
            assert all(client.answer().status == 200 for client in clients)
            assert application.blocks.wait(PATIENCE)
            assert len(ask_all(clients)) == CLIENTS
            application.may_end.set()
            assert slow.answer().status == 200
            lent_to_a_thread(server, crowd)


def test_all_threads_may_be_busy_with_calls(application: Application, crowd: ExitStack) -> None:
    with served(application, 3) as server:
        clients = lent_to_a_thread(server, crowd)
        for client in clients[:3]:
            client.send(request("/block"))
        wait_until(lambda: server.engine.runners.busy == 3)
        assert server.on_loop(lambda: True)
        clients[3].send(request())
        wait_until(lambda: server.engine.runners.waiting == 1)
        application.may_end.set()
        assert [client.answer().status for client in clients[:4]] == [200] * 4


@pytest.mark.parametrize("path", ["/large", "/written"])
def test_who_waits_for_a_client_has_not_got_it(application: Application, crowd: ExitStack, path: str) -> None:
    with served(application, 2) as server:
        clients = lent_to_a_thread(server, crowd)
        for _ in range(10):
            for client in clients[1:]:
                client.send(request())
            clients[0].send(request(path))
            assert clients[0].answer().body == PIECE * 100
            for client in clients[1:]:
                assert client.answer().status == 200


def test_it_ends_whoever_has_the_loop(application: Application) -> None:
    for number in range(10):
        with ExitStack() as crowd, served(application, 2) as server:
            clients = lent_to_a_thread(server, crowd)
            for client in clients:
                client.send(request())
            threading.Event().wait(number / 2000)


def test_what_is_raised_in_the_loop_is_raised_where_it_is_run() -> None:
    loop = uvloop.new_event_loop()
    mailbox = Mailbox(loop)
    pool = ThreadPool(2, 1000, loop, mailbox, lambda: None, CountsNothing())

    class Counted:
        """Comes again and again, until it was called by a thread that has the loop."""

        queued_at = 0.0

        def run(self, _: Runner, __: float) -> None:
            mailbox.post(self.again, is_lent(pool))

        def again(self, lent: bool) -> None:
            pool.over()
            if lent:
                loop.call_soon(self.leave)
            else:
                pool.submit(self)

        def leave(self) -> None:
            raise SystemExit(7)

    for _ in range(4):
        loop.call_soon(pool.submit, Counted())
    with pytest.raises(SystemExit) as raised:
        pool.run()
    assert raised.value.code == 7
    assert pool.stop(PATIENCE)
    loop.close()


class Source:
    """Always has one more connection for the leader of its pool, which then does `accepts`."""

    def __init__(self, accepts: Callable[["Source"], object]) -> None:
        self.loop = new_event_loop(is_observed=True)
        self._mailbox = Mailbox(self.loop)
        self.pool = ThreadPool(2, 1000, self.loop, self._mailbox, lambda: None, CountsNothing())
        self._accepts = accepts
        self.accepted = 0

    def run(self) -> None:
        """Run the pool until it is left, and then its loop, as a worker does for its shutdown."""
        self.pool.accept_from(self)
        self.loop.call_soon(self.submit)
        self.pool.run()
        assert self.accepted
        assert self.loop.run_until_complete(asyncio.sleep(0.001, "it runs")) == "it runs"
        assert self.pool.stop(PATIENCE)
        self.loop.close()

    def submit(self) -> None:
        """Have a call made, and others after it until there is a leader, which then accepts."""
        self.pool.submit(_Call(self.pool, self._mailbox, self._called))

    def _called(self, lent: bool) -> None:
        self.pool.over()
        if lent:
            self.loop.call_soon(self.pool.leave_to_leader)
        else:
            self.submit()

    def has_loop_work(self) -> bool:
        return False

    def accept_one(self) -> bool:
        assert is_lent(self.pool)
        self.accepted += 1
        self._accepts(self)
        return True

    def wait(self, _: float) -> Arrival:
        return Arrival.NOTHING

    def accept(self) -> None:
        """Accept what the leader has left: nothing, as nobody counts it."""


class _Call:
    """A job that tells whether a leader has made it."""

    queued_at = 0.0

    def __init__(self, pool: ThreadPool, mailbox: Mailbox, called: Callable[[bool], None]) -> None:
        self._pool = pool
        self._mailbox = mailbox
        self._called = called

    def run(self, _: Runner, __: float) -> None:
        self._mailbox.post(self._called, is_lent(self._pool))


def test_it_may_be_left_while_the_loop_stands_still() -> None:
    """Nothing may be left behind that stops the loop when it runs for the end of the process."""

    def leave(source: Source) -> None:
        source.pool.leave_to_leader()
        source.pool.leave()
        source.submit()

    Source(leave).run()


def test_kept_connections_that_are_always_busy_keep_out_no_new_ones() -> None:
    """Each turn of the loop brings more calls, and connections wait."""

    class Busy(Source):
        def _called(self, lent: bool) -> None:
            self.pool.over()
            if lent:
                self.loop.call_soon(self.pool.leave_to_leader)
            self.loop.call_soon(self.submit)

    Busy(lambda source: source.pool.leave()).run()


def test_what_is_raised_while_the_loop_stands_still_is_raised_where_it_is_run() -> None:
    class Ends(Source):
        def _called(self, lent: bool) -> None:
            super()._called(lent)
            if lent:
                raise SystemExit(7)

    with pytest.raises(SystemExit) as raised:
        Ends(lambda _: None).run()
    assert raised.value.code == 7


def test_connections_that_bring_no_call_do_not_keep_the_loop_from_turning() -> None:
    source = Source(lambda _: None)
    source.loop.call_later(0.05, source.pool.leave)
    source.run()


def test_an_error_of_a_connection_costs_no_other_one() -> None:
    faults: list[object] = []

    def fail(source: Source) -> None:
        if source.accepted == 3:
            source.loop.call_soon(source.pool.leave)
        raise OSError(source.accepted)

    source = Source(fail)
    source.loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    source.run()
    assert [str(each) for each in faults][:3] == ["1", "2", "3"]


def test_whoever_is_woken_beside_the_one_that_is_to_have_the_loop_is_awake() -> None:
    """Found by a random load at a switch interval of 10 us: such a thread was neither parked nor woken, for good."""
    loop = uvloop.new_event_loop()
    pool = ThreadPool(3, 1000, loop, Mailbox(loop), lambda: None, CountsNothing())

    class Done:
        queued_at = 0.0

        def run(self, _: Runner, __: float) -> None:
            loop.call_soon_threadsafe(pool.over)

    def begin() -> None:
        for _ in range(100):
            pool.took(0.0001, 100)
        for _ in range(2):
            pool.submit(Done())
        pool.woken(PoolThread(pool, 4))  # As if it looked for jobs already: the next job has another thread woken.
        for _ in range(2):
            pool.submit(Done())
        loop.call_later(0.1, pool.leave)

    loop.call_soon(begin)
    pool.run()
    assert pool.stop(5)
    loop.close()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_everybody_is_answered_whatever_comes(threads: int) -> None:
    """Calls of every length, alone and many at once, in random order."""
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    pauses = [0.0] * 300 + [0.0003, 0.002, 0.005]

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        kind, _, number = environ["QUERY_STRING"].partition("-")
        start_response("200 OK", [])
        if kind == "large":
            return (PIECE for _ in range(int(number) % 20))
        time.sleep(float(kind))
        return [number.encode()]

    def ask(server: Serving, random: Random, until: float, wrong: list[str]) -> None:
        number = 0
        with server.client() as client:
            while time.monotonic() < until:
                number += 1
                kind = "large" if random.random() < 0.01 else str(random.choice(pauses))
                body = client.get(f"/?{kind}-{number}").body
                if body != (PIECE * (number % 20) if kind == "large" else str(number).encode()):
                    wrong.append(f"{kind}-{number}: {body[:50]!r}")
                if random.random() < 0.002:
                    time.sleep(0.01)

    wrong: list[str] = []
    with serving(app, threads=threads) as server:
        until = time.monotonic() + 2.0
        crowd = [
            threading.Thread(target=ask, args=(server, Random(f"{seed} {number}"), until, wrong))
            for number in range(12)
        ]
        for each in crowd:
            each.start()
        for each in crowd:
            each.join(PATIENCE)
        assert not any(each.is_alive() for each in crowd), seed
        assert wrong == [], seed


OF_ANY_LENGTH = """
import time

def app(environ, start_response):
    kind, _, number = environ["QUERY_STRING"].partition("-")
    start_response("200 OK", [])
    if kind == "large":
        return (bytes(25600) for _ in range(int(number) % 20))
    time.sleep(float(kind))
    return [environ["wsgi.input"].read() or number.encode()]
"""


def ask_anew(service: Service, random: Random, until: float, wrong: list[str]) -> None:
    """Ask on new connections, each as some client does it."""
    number = 0
    while time.monotonic() < until:
        number += 1
        kind = "large" if random.random() < 0.02 else str(random.choice([0.0] * 300 + [0.0003, 0.002, 0.03]))
        body = b"x" * random.choice((0, 0, 0, 10, 70_000)) if kind != "large" else b""
        sent = request(f"/?{kind}-{number}", *(["Connection: close"] * (random.random() < 0.8)), body=body)
        with Client(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as client:
            if random.random() < 0.01:
                continue  # It leaves, and has said nothing.
            if random.random() < 0.05:
                time.sleep(random.choice((0.0001, 0.001, 0.02)))
            cut = random.randrange(len(sent)) if random.random() < 0.05 else 0
            client.send(sent[:cut])
            if cut:
                time.sleep(0.001)
            client.send(sent[cut:])
            if random.random() < 0.01:
                continue  # It leaves before the response.
            answer = client.answer().body
        if answer != (bytes(25600 * (number % 20)) if kind == "large" else body or str(number).encode()):
            wrong.append(f"{kind}-{number}: {answer[:50]!r}")


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("workers", [1, 3])
def test_everybody_with_a_new_connection_is_answered_whatever_comes(
    make_service: Callable[..., Service], workers: int, threads: int
) -> None:
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    service = make_service(workers=workers, threads=threads)
    service.deploy("1", OF_ANY_LENGTH)
    service.start()
    wrong: list[str] = []
    until = time.monotonic() + 2.0
    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(ask_anew, service, Random(f"{seed} {n}"), until, wrong) for n in range(8)]:
            each.result(2 * PATIENCE)
    assert wrong == []
    assert service.stop() == 0
    assert " error: " not in service.log()


def test_the_leader_accepts_connections_itself(make_service: Callable[..., Service]) -> None:
    service = make_service(workers=1, threads=4)
    service.deploy("1", WHERE)
    service.start()
    answers: list[bytes] = []

    def ask() -> None:
        deadline = time.monotonic() + PATIENCE
        while answers[-20:] != [b"lent"] * 20:
            assert time.monotonic() < deadline, "it does not"
            with Client(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as client:
                answers.append(client.get("/", "Connection: close").body)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(ask) for _ in range(8)]:
            each.result(2 * PATIENCE)


def test_no_address_keeps_out_another(make_service: Callable[..., Service]) -> None:
    service, other = make_service(workers=1, threads=4), free_port()
    service.configure(listen=[f"127.0.0.1:{service.port}", f"127.0.0.1:{other}"])
    service.deploy("1", WHERE)
    service.start()
    until = time.monotonic() + 2.0

    def ask(port: int) -> int:
        count = 0
        while time.monotonic() < until:
            with Client(socket.create_connection(("127.0.0.1", port), PATIENCE)) as client:
                assert client.get("/", "Connection: close").status == 200
            count += 1
        return count

    with ThreadPoolExecutor(9) as pool:
        crowd = [pool.submit(ask, service.port) for _ in range(8)]
        alone = pool.submit(ask, other).result(2 * PATIENCE)
        assert alone > sum(each.result(2 * PATIENCE) for each in crowd) / len(crowd) / 4


def test_calls_that_come_seldom_have_no_leader(make_service: Callable[..., Service]) -> None:
    """To watch a leader would cost more than it saves."""
    service = make_service(workers=1, threads=4)
    service.deploy("1", WHERE)
    service.start()
    with Client(socket.create_connection(("127.0.0.1", service.port), PATIENCE)) as client:
        for _ in range(100):
            assert client.get().body == b"kept"
            time.sleep(0.01)  # The pause of a client.


WHERE = """
import gc, threading
from functools import cache

@cache
def pool():
    from clusterd.http.wsgi.pool.thread_pool import ThreadPool
    return next(each for each in gc.get_objects() if isinstance(each, ThreadPool))

def app(environ, start_response):
    leader = pool().leader
    start_response("200 OK", [("Content-Length", "4")])
    return [b"lent" if leader is not None and leader.name == threading.current_thread().name else b"kept"]
"""


def test_signals_and_rollouts_are_heard_while_it_is_lent(make_service: Callable[..., Service]) -> None:
    service = make_service(workers=2, threads=4)
    service.deploy("1", WHERE)
    service.start()
    over = threading.Event()
    failures: list[Exception] = []
    answers: list[bytes] = []

    def ask() -> None:
        try:
            while not over.is_set():
                with Client(socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)) as client:
                    keeps = True
                    while keeps and not over.is_set():
                        answer = client.get()
                        answers.append(answer.body)
                        keeps = "connection" not in answer.fields
        except Exception as error:
            failures.append(error)

    def lent_again() -> None:
        before = len(answers)
        wait_until(lambda: b"lent" in answers[before:])

    crowd = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for each in crowd:
        each.start()
    try:
        for _ in range(3):
            lent_again()
            assert service.ask_to_reload()["succeeded"]
        for _ in range(2):
            lent_again()
            pid = service.workers()[0]["pid"]
            os.kill(pid, signal.SIGTERM)
            service.wait_for_line(f"SIGTERM received, draining.*pid={pid}")
            service.wait_for_line(f"worker failed: exit status 0.*pid={pid}")
    finally:
        over.set()
        for each in crowd:
            each.join(PATIENCE)
    assert failures == []
