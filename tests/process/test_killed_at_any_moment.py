"""The master is killed at any moment at which another process can see what it does, whatever it was asked for."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.process.test_masters_death import clients, kill_and_wait, waits_at
from tests.process.test_rescue import ASGI, HANG, kept_alive
from tests.support.installed import Installed
from tests.support.killed_master import Moments, at_rest
from tests.support.managed import ManagedService
from tests.support.processes import is_alive
from tests.support.rollouts import clients_of, counters
from tests.support.service import HELLO, wait_until

pytestmark = pytest.mark.engine_independent

MakeManaged = Callable[..., ManagedService]

BROKEN = "raise ValueError('a bad deploy')"
PROCESSES = 5
"""The master, a template, its spare, and two workers."""
TRIALS = 3
"""How often the master may die in each of the operations. All of the moments are some 2,000."""
MOST_TRIALS = 20
"""An operation may need fewer moments than it has needed before, and be over before that one. Once the master dies."""


def described(service: ManagedService) -> dict[str, Any]:
    """The service, once nothing is under way any more."""

    def settled() -> dict[str, Any] | None:
        found = service.describe()
        if found is None or not found["status"].startswith("Serving: "):
            return None
        return found if all(each["state"] == "ready" for each in found["workers"]) else None

    found: dict[str, Any] = wait_until(settled, f"nothing is under way:\n{service.log()}")
    return found


def ask_to(service: ManagedService, command: str, **arguments: object) -> bool:
    """Ask for an operation, and return whether there was an answer. A master that dies gives none."""
    try:
        service.ask_to(command, **arguments)
    except (ConnectionError, IndexError):
        return False
    return True


def reload(service: ManagedService) -> None:
    ask_to(service, "reload")


def bad_reload(service: ManagedService) -> None:
    service.deploy("bad", BROKEN)
    ask_to(service, "reload")
    described(service)
    service.deploy("1")


def scale_up_and_down(service: ManagedService) -> None:
    ask_to(service, "scale", workers=3)
    described(service)
    # A master that is dead before it has read this has not heard it, as clusterctl says.
    wait_until(lambda: ask_to(service, "scale", workers=2), "a master that answers")


def restart(service: ManagedService) -> None:
    ask_to(service, "restart", slot=1)


def kill_a_worker(service: ManagedService) -> None:
    workers = wait_until(service.workers, "a master that answers")
    os.kill(workers[0]["pid"], signal.SIGKILL)


OPERATIONS = (reload, bad_reload, scale_up_and_down, restart, kill_a_worker)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
def test_nothing_is_lost_or_left_whenever_the_master_is_killed(
    make_managed: MakeManaged, operation: Callable[[ManagedService], None]
) -> None:
    random = Random(operation.__name__)
    service = make_managed()
    moments = Moments(service)
    service.start()
    began = moments.count
    operation(service)
    described(service)
    most = moments.count - began
    rest = wait_until(
        lambda: found if (found := at_rest(service)).processes == PROCESSES else None, "its spare template"
    )
    before = counters(service)
    for trial in range(MOST_TRIALS):
        if trial >= TRIALS and service.seen().starts > 1:
            break
        # The workers of a service whose worker is killed lose what that one has.
        with clients(service, 0 if operation is kill_a_worker else 3) as complaints:
            moments.die_in(random.randrange(1, most), random.choice((0, random.randrange(1, 200))))
            operation(service)
            described(service)
        moments.spare()  # It may have needed fewer moments this time.
        found = described(service)
        assert complaints == []
        assert [(each["slot"], each["generation"]) for each in found["workers"]] == [
            (slot, found["generation"]) for slot in (1, 2)
        ]
        after = counters(service)
        assert not {name: (count, after.get(name)) for name, count in before.items() if after.get(name, 0.0) < count}
        before = after
        wait_until(lambda: at_rest(service).is_no_more_than(rest), f"no more than {rest}, and not {at_rest(service)}")
    assert service.seen().starts > 1
    assert not [line for line in service.lines if re.search(r"error: \w+Error: (?!a bad deploy)", line)]
    assert service.stop() == 0


def test_a_restart_that_a_dead_master_was_asked_for_ends(make_managed: MakeManaged) -> None:
    service = make_managed(preload=False)
    service.start()
    before = [each["pid"] for each in service.workers()]
    gate = service.directory / "gate"
    service.deploy("2", waits_at(gate))
    command = [service.python, "-m", "clusterd.cli.clusterctl", "--socket", str(service.control), "restart", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asked:
        wait_until(gate.with_suffix(".reached").exists, "the import")
        kill_and_wait(service)
        gate.touch()
        _, said = asked.communicate()
    assert asked.returncode == 69
    assert "the next master finishes what had begun" in said
    wait_until(lambda: described(service)["workers"][0]["pid"] != before[0], "another worker in slot 1")
    assert described(service)["workers"][1]["pid"] == before[1]
    assert "KeyError" not in service.log()


@pytest.mark.parametrize("more", [2, 30, 60, 90])
def test_no_connection_of_a_hanging_worker_goes_to_two_others(make_managed: MakeManaged, more: int) -> None:
    """The master dies while it gives them away, and the next one goes on."""
    service = make_managed(workers=3, timeouts={"hang": "2s"})
    moments = Moments(service)
    service.deploy("1", ASGI)
    service.start()
    with ExitStack() as opened:
        found = kept_alive(service, opened, 30)
        hanging, hung = next(iter(found.items()))
        moments.die_after_stop(more)
        hanging.sendall(HANG)
        wait_until(lambda: service.seen().starts > 1, f"a death\n{service.log()}")
        wait_until(lambda: not is_alive(hung), "the end of the one that hangs")
        others = [each["pid"] for each in described(service)["workers"]]

        def held() -> list[int]:
            # 0 is that of the listening socket.
            return sorted(port for pid in others for port in clients_of(pid, {service.port}) if port)

        # All but the one that hangs, and one that was about to be given away.
        def is_held_once_each() -> bool:
            # In one look, two may have one that is just moved. One that was given to both stays with both.
            ports = held()
            return len(ports) >= len(found) - 2 and ports == sorted(set(ports))

        wait_until(is_held_once_each, "each is taken, by one worker")
    assert service.stop() == 0


def test_hooks_go_on_and_say_nothing_that_is_not_so(make_managed: MakeManaged) -> None:
    service = make_managed(hooks="hooks")
    gate = service.directory / "gate"
    hooks = 'from clusterd import cluster\n@cluster.on("exit")\ndef exited(worker, code, signal): pass\n'
    (service.directory / "hooks.py").write_text(hooks)
    service.start()
    kill_and_wait(service)
    # The template has loaded, and waits for the hooks of its generation.
    (service.directory / "hooks.py").write_text(waits_at(gate).partition("\n\n")[0] + "\n" + hooks)
    service.signal(signal.SIGHUP)
    service.wait_for_line("template ready .*generation=2")
    wait_until(gate.with_suffix(".reached").exists, "the import of the hooks")
    kill_and_wait(service)
    gate.touch()
    service.wait_for_line("reload succeeded, generation 2 serves")
    assert "unexpected message" not in service.log()
    assert "Traceback" not in service.log()
    # Once for each master: the last one is told of it once, however often it is said.
    assert len([line for line in service.lines if re.search("template ready .*generation=2", line)]) == 2
    assert service.stop() == 0


def reads_nothing(service: ManagedService, worker: dict[str, Any]) -> None:
    """Stop a worker, and send it more than the kernel keeps for it: orders to it wait in the master from now on."""
    os.kill(worker["pid"], signal.SIGSTOP)
    for _ in range(40):
        assert service.ask_to("send", slot=worker["slot"], message="x" * 30_000)["succeeded"]


def test_an_order_that_waited_in_a_dead_master_is_given_again(make_managed: MakeManaged) -> None:
    """A worker that does not read for a while drains all the same, and is not killed with what it has."""
    service = make_managed(timeouts={"hang": "1h", "drain": "1h"})
    service.start()
    worker = service.workers()[0]
    reads_nothing(service, worker)
    service.deploy("2")
    service.ask_to_reload()
    service.describe()  # Before it answers, the state is written.
    kill_and_wait(service)
    os.kill(worker["pid"], signal.SIGCONT)
    wait_until(lambda: not is_alive(worker["pid"]), "it has drained")
    assert "killing worker" not in service.log()
    assert service.stop() == 0


def test_what_is_logged_is_told_again_to_a_worker_that_had_not_read_it(make_managed: MakeManaged) -> None:
    service = make_managed(workers=1, timeouts={"hang": "1h"})
    service.start()
    (worker,) = service.workers()
    reads_nothing(service, worker)
    assert service.ask_to("log-access", mode="all")["succeeded"]
    service.describe()
    kill_and_wait(service)
    os.kill(worker["pid"], signal.SIGCONT)
    wait_until(lambda: service.get("/seen") and "target=/seen" in service.log(), "it is logged")
    assert service.stop() == 0


def test_a_template_that_is_started_again_has_the_configuration_of_its_generation(make_managed: MakeManaged) -> None:
    service = make_managed()
    service.start()
    service.delay_barriers(600.0)  # No template gets its first order, so each master starts one of its own.
    service.configure(environment={"NEW": "yes"})
    service.deploy("2", HELLO.replace("def app", "assert os.environ['NEW'] == 'yes'\ndef app"))
    service.signal(signal.SIGHUP)
    service.wait_for_line("starting a template generation=2")
    service.describe()
    service.delay_barriers(0.0)
    kill_and_wait(service)
    service.wait_for_line("reload succeeded, generation 2 serves")
    assert service.log().count("starting a template generation=2") == 2
    assert service.stop() == 0


def test_a_master_of_another_version_replaces_the_workers_of_a_dead_one(
    make_managed: MakeManaged, tmp_path: Path
) -> None:
    """The upgrade may have been asked for, and was to wait for a moment of rest."""
    installed = Installed(tmp_path)
    service = make_managed()
    service.environment |= installed.environment
    service.start()
    installed.become("9.9.9")
    kill_and_wait(service)
    service.wait_for_line(r"clusterd 9\.9\.9 goes on with the workers of clusterd [0-9.]+")
    service.wait_for_line("reload succeeded, generation 2 serves")
    kill_and_wait(service)
    assert described(service)["generation"] == 2
    assert service.stop() == 0
