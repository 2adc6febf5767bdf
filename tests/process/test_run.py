"""`run:` in place of `app:`: workers that serve nobody, supervised like any other."""

import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.support.following import Following
from tests.support.service import Never, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


def _is_told(by: tuple[int, int, list[str]], event: dict[str, Any]) -> bool:
    return (event.get("slot"), event.get("pid"), event.get("data")) == by


THREAD = """
import threading
from clusterd import worker

@worker.on("message")
def echo(message):
    worker.send(["echo", message])

def main():
    worker.send(["called", threading.current_thread().name, worker.id, worker.generation])
    worker.stop_event.wait()
    worker.send(["stopping", worker.should_stop])
"""

TASK = """
import asyncio, threading
from clusterd import worker

@worker.on("message")
async def echo(message):
    worker.send(["echo", message])

async def main():
    worker.send(["called", threading.current_thread().name, worker.id, worker.generation])
    await asyncio.to_thread(worker.stop_event.wait)
    worker.send(["stopping", worker.should_stop])
"""

KINDS = {"thread": (THREAD, "clusterd-run"), "task": (TASK, "MainThread")}


def make_job(make_service: MakeService, source: str, **settings: Any) -> Service:
    service = make_service(**{"app": None, "listen": None, "run": "app:main", "workers": 1, **settings})
    service.deploy("1", source)
    return service


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_it_is_called_in_every_worker_and_stops_when_asked(make_service: MakeService, kind: str) -> None:
    source, thread = KINDS[kind]
    service = make_job(make_service, source, workers=2).start()
    with Following(service) as following:
        assert sorted(following.messages(2)) == [["called", thread, slot, 1] for slot in (1, 2)]
        service.signal(signal.SIGTERM)
        assert following.messages(4)[2:] == [["stopping", True]] * 2
        assert service.wait() == 0
    assert service.log().count("worker ended: exit status 0") == 2
    assert "drain_timeout" not in service.log()


def test_its_messages_are_handled_while_it_runs(make_service: MakeService, kind: str) -> None:
    service = make_job(make_service, KINDS[kind][0]).start()
    with Following(service) as following:
        assert service.ask_to("send", slot=1, message="hello")["data"] == {"workers": 1}
        following.wait_for_message(["echo", "hello"])


def test_it_hangs_not_though_it_waits_and_is_in_the_metrics(make_service: MakeService, kind: str) -> None:
    service = make_job(make_service, KINDS[kind][0], timeouts={"hang": "500ms"}).start()
    (before,) = service.workers()
    wait_until(lambda: service.workers()[0]["age"] > 3 * 0.5, "it is older than a hang")
    assert service.workers()[0]["pid"] == before["pid"]
    assert 'worker="1"' in service.metrics().text


def test_a_reload_replaces_it(make_service: MakeService, kind: str) -> None:
    source, thread = KINDS[kind]
    service = make_job(make_service, source).start()
    with Following(service) as following:
        first = following.wait_for_message(["called", thread, 1, 1])
        service.deploy("2", source.replace('"stopping"', '"stopping anew"'))
        assert service.reload().returncode == 0
        following.wait_for_message(["called", thread, 1, 2])
        assert following.wait_for_message(["stopping", True])["pid"] == first["pid"]
        service.wait_for_line(f"worker ended: exit status 0.*pid={first['pid']} reason=rollout")
        assert service.ask_to("stop")["succeeded"]
        following.wait_for_message(["stopping anew", True])


def test_one_that_may_have_to_take_its_slot_back_goes_on(make_service: MakeService) -> None:
    service = make_job(make_service, THREAD, preload=False, workers=2).start()
    before = {worker["slot"]: worker["pid"] for worker in service.workers()}
    # The second worker of the new generation fails: the first slot goes back to its predecessor.
    service.deploy("2", f"import os\nif os.environ.get('CLUSTERD_WORKER') == '2': raise RuntimeError('no')\n{THREAD}")
    with Following(service) as following:
        assert service.reload().returncode == 1
        wait_until(lambda: {w["slot"]: w["pid"] for w in service.workers()} == before, "the predecessors are back")
        service.ask_to("send", slot="all", message="alive?")
        for slot, pid in before.items():
            answer = (slot, pid, ["echo", "alive?"])
            following.wait_for(partial(_is_told, answer))
        stopped = following.wait_for(lambda each: each.get("data") == ["stopping", True])
        assert {event["generation"] for event in stopped} == {2}


def test_a_sigterm_stops_it_and_another_takes_its_place(make_service: MakeService, kind: str) -> None:
    service = make_job(make_service, KINDS[kind][0]).start()
    (before,) = service.workers()
    with Following(service) as following:
        os.kill(before["pid"], signal.SIGTERM)
        following.wait_for_message(["stopping", True])
        service.wait_for_line(f"worker failed: exit status 0.*pid={before['pid']} reason=exit")
        wait_until(lambda: service.workers() and service.workers()[0]["pid"] != before["pid"], "another")


def test_one_that_is_killed_is_replaced(make_service: MakeService) -> None:
    service = make_job(make_service, THREAD).start()
    (before,) = service.workers()
    os.kill(before["pid"], signal.SIGKILL)
    service.wait_for_line(f"worker failed: SIGKILL.*pid={before['pid']}")
    wait_until(lambda: service.workers() and service.workers()[0]["pid"] != before["pid"], "another")


# ---- ends that nobody asked for


ENDS = """
import asyncio, sys
from clusterd import worker

def main():
    END

async def main_async():
    END
"""


@pytest.mark.parametrize("function", ["main", "main_async"])
@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("return", 1, "run: app:FUNCTION has returned, and was not asked to stop"),
        ("sys.exit()", 1, "run: app:FUNCTION has returned, and was not asked to stop"),
        ("raise LookupError('no such thing')", 1, "run: app:FUNCTION: LookupError: no such thing .*app.py:"),
        ("sys.exit('over')", 1, "run: app:FUNCTION: SystemExit: over"),
    ],
)
def test_an_end_that_nobody_asked_for_is_a_failure_with_backoff(
    make_service: MakeService, function: str, end: str, status: int, said: str
) -> None:
    service = make_job(make_service, ENDS.replace("END", end), run=f"app:{function}").start(wait=False)
    service.wait_for_line(said.replace("FUNCTION", function))
    service.wait_for_line(f"worker failed: exit status {status}; trying again in .* reason=exit")
    if "LookupError" in end:
        service.wait_for_line("Traceback")
        service.wait_for_line(r"raise LookupError\('no such thing'\)")
    first = service.wait_for_line("worker ready")
    service.wait_for_line("worker ready", after=service.lines.index(first) + 1)


SAYS_AND_RETURNS = """
import threading
from clusterd import worker
may_go = threading.Event()

@worker.on("message")
def go(message):
    may_go.set()

def main():
    may_go.wait()
    for number in range(500):
        worker.send(number)
"""


def test_what_is_said_last_arrives(make_service: MakeService) -> None:
    service = make_job(make_service, SAYS_AND_RETURNS).start()
    with Following(service) as following:
        service.ask_to("send", slot=1, message="go")
        assert following.messages(500) == list(range(500))


def test_one_that_does_not_stop_is_cut_at_the_end_of_the_drain(make_service: MakeService) -> None:
    source = "import threading\ndef main():\n    threading.Event().wait()\n"
    service = make_job(make_service, source, timeouts={"drain": "200ms"}).start()
    (before,) = service.workers()
    assert service.reload().returncode == 0
    service.wait_for_line("run: app:main was cut at the end of the drain.* reason=drain_timeout")
    service.wait_for_line(f"worker ended: .*pid={before['pid']}")
    assert service.stop() == 0


RETURNS_BEFORE_ITS_MESSAGES_ARE_HANDLED = """
import asyncio
from clusterd import worker

@worker.on("message")
async def slow(message):
    print("handling", flush=True)
    await asyncio.sleep(60)

async def main():
    while not worker.should_stop:
        await asyncio.sleep(0.01)
"""


def test_one_that_has_returned_is_not_cut(make_service: MakeService) -> None:
    service = make_service(app=None, run="app:main", listen=None, workers=1, timeouts={"drain": "1s"})
    service.deploy("1", RETURNS_BEFORE_ITS_MESSAGES_ARE_HANDLED)
    service.start()
    assert service.clusterctl("send", "1", "{}").returncode == 0
    service.wait_for_line("handling")
    assert service.stop() == 0
    assert "the handling of 1 messages was cut" in service.log()
    assert "app:main was cut" not in service.log()
    assert "RuntimeError" not in service.log()


def test_one_that_blocks_the_loop_is_killed_as_a_hang(make_service: MakeService) -> None:
    source = "import time\nasync def main():\n    time.sleep(600)\n"
    service = make_job(make_service, source, timeouts={"hang": "500ms"}).start(wait=False)
    service.wait_for_line("worker failed: .* reason=hang")


# ---- what it is not


def test_nothing_is_listened_on(make_service: MakeService) -> None:
    service = make_job(make_service, THREAD).start()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", service.port))
    assert "listen: off" in service.log()


def test_a_reload_does_not_make_an_application_of_it(make_service: MakeService) -> None:
    service = make_job(make_service, THREAD).start()
    (before,) = service.workers()
    service.settings.update(app="app:main", run=None)
    service.configure()
    refused = service.reload()
    assert refused.returncode == 1
    assert "app: there was run at the start; restart clusterd" in refused.stderr
    assert "app: there was run at the start" in service.clusterctl("config", "--diff").stderr
    assert service.workers()[0]["pid"] == before["pid"]


def test_one_that_takes_arguments_is_refused_at_the_start(make_service: MakeService) -> None:
    service = make_job(make_service, "def main(queue):\n    pass\n").start(wait=False)
    service.wait_for_line(r"run: app:main takes \(queue\), and is called without arguments")
    assert service.wait() == 70


def test_boot_fails_where_worker_start_does(make_service: MakeService) -> None:
    source = THREAD + "\ndef start():\n    raise RuntimeError('no database')\n"
    service = make_job(make_service, source, worker_start="app:start").start(wait=False)
    service.wait_for_line("worker_start: app:start: RuntimeError: no database")
    service.wait_for_line("worker failed: .*RuntimeError: no database.*; trying again in 0.5 s")
    assert service.stop() == 0
    with pytest.raises(Never):
        service.wait_for_line("worker ready")
