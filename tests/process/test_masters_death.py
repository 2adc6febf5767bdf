"""The master is killed, and the next one goes on with its workers: no client notices, and nothing is left half done."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.managed import ManagedService
from tests.support.processes import is_alive, open_files
from tests.support.rollouts import counters
from tests.support.service import HELLO, wait_until

pytestmark = pytest.mark.engine_independent  # The rollouts in which masters die are tried with each engine.

MakeManaged = Callable[..., ManagedService]
SHOWN = ("slot", "generation", "pid", "state", "restarts")


def shown(service: ManagedService) -> list[list[Any]]:
    """What `clusterctl workers` says of each worker, but for what changes from moment to moment."""
    return [[each[name] for name in SHOWN] for each in service.workers()]


def pids(service: ManagedService) -> set[int]:
    """Of the workers that serve."""
    return {each["pid"] for each in service.workers()}


def kill_and_wait(service: ManagedService) -> None:
    """Kill the master. Returns when the next one has gone on and is ready."""
    ready = service.seen().ready
    service.kill_the_master()
    wait_until(lambda: service.seen().ready > ready, f"ready again:\n{service.log()}")


def waits_at(gate: Path) -> str:
    """An application whose import waits for a file."""
    reached = gate.with_suffix(".reached")
    return (
        "import os, time\n"
        f"open({str(reached)!r}, 'w').close()\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n{HELLO}"
    )


@contextmanager
def clients(service: ManagedService, number: int = 4) -> Iterator[list[str]]:
    """Clients that ask all the time, on kept and on new connections. Yields what they complain about."""
    complaints: list[str] = []
    is_over = threading.Event()

    def ask(*, keeps: bool) -> None:
        session = requests.Session()
        session.trust_env = False
        while not is_over.is_set():
            try:
                answer = session.get(f"http://127.0.0.1:{service.port}/", timeout=60)
                if answer.status_code != 200:
                    complaints.append(f"{answer.status_code} {answer.text}")
                if not keeps:
                    session.close()
            except requests.RequestException as error:
                complaints.append(repr(error))
        session.close()

    threads = [threading.Thread(target=ask, kwargs={"keeps": each % 2 == 0}) for each in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield complaints
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_the_next_master_goes_on_with_the_same_workers(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    before, ages = shown(service), [each["age"] for each in service.workers()]
    with clients(service) as complaints:
        for _ in range(3):
            kill_and_wait(service)
            assert shown(service) == before
    assert complaints == []
    assert all(each["age"] >= age for each, age in zip(service.workers(), ages, strict=True))
    service.deploy("2")
    assert service.reload().returncode == 0
    assert service.ask().version == "2"
    assert service.stop() == 0


def test_its_death_in_an_import_costs_the_rollout_nothing(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    gate = service.directory / "gate"
    service.deploy("2", waits_at(gate))
    service.signal(signal.SIGHUP)
    wait_until(gate.with_suffix(".reached").exists, "the import")
    kill_and_wait(service)
    assert service.ask().version == "1"
    gate.touch()
    service.wait_for_line("reload succeeded, generation 2 serves")
    wait_until(lambda: service.ask().version == "2", "the old workers have heard of it")
    assert service.log().count("starting a template generation=2") == 1


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_its_death_in_the_boot_of_workers_costs_the_rollout_nothing(make_managed: MakeManaged, delay: float) -> None:
    service = make_managed(preload=False)
    service.start()
    service.delay_barriers(delay)
    gate = service.directory / "gate"
    service.deploy("2", waits_at(gate))
    service.signal(signal.SIGHUP)
    service.wait_for_line("template ready .*generation=2")
    kill_and_wait(service)
    gate.touch()
    service.wait_for_line("reload succeeded, generation 2 serves")
    wait_until(lambda: service.ask().version == "2", "the old workers have heard of it")


def test_its_death_at_the_first_start_is_followed_by_another_start(make_managed: MakeManaged) -> None:
    service = make_managed()
    gate = service.directory / "gate"
    service.deploy("1", waits_at(gate))
    service.start(wait=False)
    wait_until(gate.with_suffix(".reached").exists, "the import")
    service.kill_the_master()
    gate.touch()
    service.wait_for_status("^Serving: ")
    service.wait_for_line("this one cannot go on: the service had not started")
    assert service.ask().version == "1"


def test_a_worker_that_dies_with_it_is_replaced_and_what_it_counted_counts(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    for _ in range(20):
        service.get()
    victim = service.workers()[0]["pid"]
    before = counters(service)
    os.kill(service.pid, signal.SIGSTOP)
    os.kill(victim, signal.SIGKILL)
    kill_and_wait(service)
    wait_until(lambda: len(pids(service) - {victim}) == 2, "it is replaced")
    after = counters(service)
    assert not {name: (count, after.get(name)) for name, count in before.items() if after.get(name, 0.0) < count}
    service.wait_for_line(f"worker failed: its exit status is not known.* pid={victim}")


def test_the_status_of_what_an_adopted_template_has_forked_is_known(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    kill_and_wait(service)
    victim, other = pids(service)
    os.kill(victim, signal.SIGSEGV)
    wait_until(lambda: len(pids(service) - {victim}) == 2, "it is replaced")
    (child_of_template,) = pids(service) - {other}
    os.kill(child_of_template, signal.SIGSEGV)
    service.wait_for_line(f"worker failed: SIGSEGV.* pid={child_of_template}")


def test_what_an_adopted_worker_leaves_behind_ends(make_managed: MakeManaged) -> None:
    service = make_managed(workers=1)
    note = service.directory / "note"
    service.deploy(
        "1",
        "import subprocess\n"
        "def app(environ, start_response):\n"
        "    left = subprocess.Popen(['sleep', '600'])\n"
        f"    open({str(note)!r}, 'w').write(str(left.pid))\n"
        "    start_response('200 OK', [])\n"
        "    return [b'x']\n",
    )
    service.start()
    service.get()
    kill_and_wait(service)
    service.deploy("2")
    assert service.reload().returncode == 0
    wait_until(lambda: not is_alive(int(note.read_text())), "it has ended")
    assert service.stop() == 0


def damage(service: ManagedService) -> None:
    """Spoil the state in the memory of the master, as a defect of it would."""
    for number, target in open_files(service.pid).items():
        if "clusterd-state" in target:
            with open(f"/proc/{service.pid}/fd/{number}", "r+b", buffering=0) as file:
                file.write(b"nonsense")


def test_a_state_that_cannot_be_read_is_said_and_the_workers_drain(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    before = pids(service)
    with clients(service) as complaints:
        os.kill(service.pid, signal.SIGSTOP)  # It would mend that with its next write.
        damage(service)
        service.kill_the_master()
        service.wait_for_line(
            "its workers drain, because this one cannot go on: the state of the last master is damaged"
        )
        wait_until(lambda: service.seen().ready == 2, "it has started anew")
        wait_until(lambda: not any(map(is_alive, before)), "they have drained")
    assert complaints == []
    assert not before & pids(service)
    assert service.stop() == 0


def test_workers_end_when_the_store_is_dropped(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    before = pids(service)
    service.drop_store()
    service.kill_the_master()
    wait_until(lambda: not any(map(is_alive, before)), "they have drained")
    wait_until(lambda: service.seen().ready == 2, "it has started anew")
    assert service.ask().version == "1"


def test_ten_deaths_at_once_are_survived(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    before = shown(service)
    with clients(service) as complaints:
        for _ in range(10):
            service.kill_the_master()
        service.wait_for_status("^Serving: ")
        assert shown(service) == before
    assert complaints == []


def test_a_unit_that_makes_the_sockets_blocking_keeps_nothing(make_managed: MakeManaged) -> None:
    """With NonBlocking=no, systemd's default, workers would wait in accept(2) from the next start on."""
    service = make_managed(is_blocking=True)
    service.start()
    before = pids(service)
    with clients(service) as complaints:
        kill_and_wait(service)
    assert complaints == []
    assert not before & pids(service)
    assert service.log().count("NonBlocking=yes") == 2
    assert service.stop() == 0


def test_a_stopped_master_is_ended_by_the_next_one(make_managed: MakeManaged) -> None:
    """It would go on as the master of the same workers, were it to be continued."""
    service = make_managed()
    service.start()
    before, stopped = shown(service), service.pid
    os.kill(stopped, signal.SIGSTOP)
    with clients(service) as complaints:
        service.start_another_master()
        wait_until(lambda: service.seen().ready == 2, f"the next one:\n{service.log()}")
        wait_until(lambda: not is_alive(stopped), "the end of the first one")
        assert (service.describe() or {})["pid"] == service.pid
        assert shown(service) == before
    assert complaints == []
    service.wait_for_line(f"the last master did not end, and was killed.* pid={stopped}")
    assert service.stop() == 0


def test_what_an_import_has_started_ends_after_the_last_worker_of_a_dead_master(make_managed: MakeManaged) -> None:
    """A request that is in hand may need it. No other process ends it if no master follows, or if one begins anew."""
    service = make_managed(workers=1)
    note, gate = service.directory / "note", service.directory / "gate"
    service.deploy(
        "1",
        "import os, subprocess, time\n"
        "started = [subprocess.Popen(['sleep', '600'], start_new_session=each) for each in (False, True)]\n"
        f"with open({str(note)!r}, 'a') as file: print(*(each.pid for each in started), file=file)\n"
        "def app(environ, start_response):\n"
        "    while environ['PATH_INFO'] == '/waits' and not os.path.exists(f'{environ[\"QUERY_STRING\"]}'):\n"
        "        time.sleep(0.01)\n"
        "    start_response('200 OK', [])\n"
        "    return [str([os.path.exists(f'/proc/{each.pid}') for each in started]).encode()]\n",
    )
    service.start()
    left = [int(pid) for pid in note.read_text().split()]
    (before,) = pids(service)
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(service.get(f"/waits?{gate}").text))
    asking.start()
    wait_until(lambda: service.workers()[0]["in_flight"], "the request is in hand")
    service.drop_store()
    service.kill_the_master()
    wait_until(lambda: service.seen().ready == 2, "it has started anew")
    gate.touch()
    asking.join()
    assert answers == ["[True, True]"]
    wait_until(lambda: not any(map(is_alive, [before, *left])), "they have ended")
    assert all(map(is_alive, (int(pid) for pid in note.read_text().splitlines()[1].split())))
    assert service.stop() == 0


# ---- what a master needs to be reached


def test_a_control_socket_that_was_made_again_is_that_of_the_next_master_too(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    service.control.unlink()
    wait_until(service.control.exists, "it is there again")
    wait_until(service.describe, "it answers")
    for _ in range(2):
        kill_and_wait(service)
        wait_until(service.describe, "the next master answers")
        assert service.clusterctl("status").returncode == 0
    assert service.stop() == 0
    assert not service.control.exists()


@pytest.mark.parametrize("spare", range(1, 9, 2))
def test_masters_that_cannot_take_over_leave_everything_to_one_that_can(make_managed: MakeManaged, spare: int) -> None:
    """They lack descriptors: the more they have, the later in their beginning they fail."""
    service = make_managed()
    service.start()
    before, seen = pids(service), service.seen()
    service.limit_descriptors(3 + len(service.sockets) + len(seen.stored) + spare)
    service.kill_the_master()
    wait_until(
        lambda: service.seen().ready > seen.ready or service.seen().starts > seen.starts + 2, "some have tried it"
    )
    service.limit_descriptors(None)
    wait_until(lambda: service.seen().ready > seen.ready, f"one can:\n{service.log()}")
    wait_until(service.describe, f"it answers:\n{service.log()}")
    assert pids(service) == before
    assert service.stop() == 0
