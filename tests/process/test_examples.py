"""Every example is run as its README says, on ports of the test's own."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.clients import answer, connect
from tests.support.examples import EXAMPLES, Example, pid_in
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir()))
def test_each_example_says_what_it_shows(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text()
    assert text.startswith(f"# {name}\n\n")
    assert 8 <= len(text.splitlines()) <= 18
    assert f"examples/{name}/README.md" in (EXAMPLES.parent / "README.md").read_text()


def test_hello_names_the_pid_of_the_worker(make_service: MakeService) -> None:
    service = make_service(app="hello:app", directory=str(EXAMPLES / "hello")).start()
    pids = {worker["pid"] for worker in service.workers()}
    first = pid_in(service.get().text)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in [w["pid"] for w in service.workers()], "the kill is noticed")
    second = pid_in(service.get().text)
    assert first in pids and second != first


@pytest.mark.parametrize("name", ["flask", "fastapi"])
def test_a_killed_worker_of_a_scalable_server_is_replaced(example: Example, name: str) -> None:
    service = example(f"{name}/clusterd.yaml", "--workers", "2").start()
    answer = service.get().text
    assert answer.lower().startswith(f"hello from {name}: worker ")
    killed = pid_in(answer)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in [w["pid"] for w in service.workers()], "the kill is noticed")
    wait_until(lambda: len(service.workers()) == 2, "its place is filled")
    assert pid_in(service.get().text) in [w["pid"] for w in service.workers()]


def test_flask_computes_in_one_worker_and_answers_in_another(example: Example) -> None:
    service = example("flask/clusterd.yaml", "--workers", "2").start()
    computed: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: computed.append(service.get("/primes/500000").json()))
    thread.start()
    busy = wait_until(lambda: [w["pid"] for w in service.workers() if w["in_flight"]], "one computes")
    assert pid_in(service.get().text) not in busy
    thread.join(PATIENCE_SECONDS)
    assert computed == [{"primes": 41538, "pid": busy[0]}]


def test_fastapi_waits_for_many_in_one_worker(example: Example, clients: ExitStack) -> None:
    service = example("fastapi/clusterd.yaml", "--workers", "1").start()
    waiting = [clients.enter_context(connect(service)) for _ in range(20)]
    for client in waiting:
        client.sendall(b"GET /wait/1 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: service.workers()[0]["in_flight"] == 20, "twenty wait at once")
    assert pid_in(service.get().text) == service.workers()[0]["pid"]
    assert {answer(client) for client in waiting} == {f"Waited 1.0 s in pid {service.workers()[0]['pid']}\n"}


def test_instances_share_a_host_and_nothing_else(example: Example) -> None:
    services: dict[str, Service] = {}
    for name, workers in (("blog", 1), ("shop", 2)):
        service = example(f"instances/{name}.yaml", "--directory", str(EXAMPLES / "instances"))
        service.environment["CLUSTERD_INSTANCE"] = name
        services[name] = service.start()
        assert len(service.workers()) == workers
    blog, shop = services["blog"], services["shop"]
    assert blog.get().text.startswith("the blog: instance blog, worker 1, ")
    assert shop.get().text.startswith("the shop: instance shop, worker ")
    before = blog.get().text
    assert shop.reload().returncode == 0
    assert shop.stop() == 0
    assert blog.get().text == before


class Tasks(Service):
    """The program of examples/messages, with a control socket of its own."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return str(EXAMPLES / "messages/tasks.py"), "400000"


def test_messages_distributes_tasks_and_those_of_a_dead_worker_anew(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, environment={"XDG_RUNTIME_DIR": str(tmp_path), "RUNTIME_DIRECTORY": ""})
    tasks.control = tmp_path / "clusterd/control.sock"
    try:
        tasks.start(wait=False)
        tasks.wait_for_line("worker ready.*slot=2")
        for signal_name in ("STOP", "KILL"):  # stopped, it does not get through with what it has
            assert tasks.ask_to("kill", slot=2, signal=signal_name)["succeeded"]
        tasks.wait_for_line("^33860 primes below 400000$")
        assert tasks.wait() == 0
        assert "worker 2 has ended (SIGKILL): its task is another's" in tasks.log()
    finally:
        tasks.destroy()
        print(tasks.log())
