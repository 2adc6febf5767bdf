"""The upgrade in place: another program goes on as the master, with the same processes, sockets and counters."""

import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hooked import Hooked
from tests.support.installed import Installed
from tests.support.processes import descendants, open_files
from tests.support.program import program
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]
UPGRADES = 3
PROCESSES = 5
SLOW = """
import os, time
if "CLUSTERD_STATE" in os.environ and "--can-adopt" not in sys.argv:
    open("the new program has begun", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.01)
"""
"""The new program begins and waits, so that something can happen between the old one and it."""


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def counters(service: Service) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every counter of the page of metrics."""
    families = text_string_to_metric_families(service.metrics().text)
    counting = [family for family in families if family.type in ("counter", "histogram")]
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in counting for each in family.samples
    }


def pids_of(service: Service) -> set[int]:
    return {worker["pid"] for worker in service.workers()}


def upgraded(service: Service) -> None:
    done = service.clusterctl("upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    assert "generation" in done.stdout


def test_another_version_goes_on_in_the_same_process(make_service: MakeService, installed: Installed) -> None:
    service = make_service()
    service.environment = installed.environment
    service.start()
    before = pids_of(service)
    for _ in range(20):
        service.ask()
    counted = counters(service)
    installed.become("9.9.9")
    done = service.clusterctl("upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    lines = ["clusterd 9.9.9 goes on in the same process", "clusterd 9.9.9 runs, and generation 2 serves"]
    assert done.stdout.splitlines() == lines
    service.wait_for_line(r"clusterd 9\.9\.9 goes on in place of clusterd [0-9.]+ ")
    assert service.ask().generation == 2
    assert not before & pids_of(service)
    now = counters(service)
    assert {each for each, value in counted.items() if now.get(each, -1.0) < value} == set()
    told = service.clusterctl("events").stdout
    assert re.search(r"ready\n.* upgraded version=9\.9\.9 before=[0-9.]+\n(.*\n)*.* rollout_end ", told), told
    assert service.stop() == 0


def test_the_applications_counters_go_on_with_those_of_the_dead(make_service: MakeService) -> None:
    service = make_service(workers=1)
    counting = 'import os\nfrom prometheus_client import Counter\nASKED = Counter("asked", "Asked.")'
    source = HELLO.replace("import os", counting).replace("    body =", "    ASKED.inc()\n    body =")
    service.deploy("1", source)
    service.start()

    def asked() -> float:
        return sum(value for (name, _), value in counters(service).items() if name == "asked_total")

    for expected in (3, 6, 9):
        (pid,) = {service.ask().pid for _ in range(3)}
        assert asked() == expected
        # What it has counted is folded into what the dead of its slot have left, also under an earlier program.
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: service.workers() and pid not in pids_of(service), "its successor")  # noqa: B023
        upgraded(service)
        assert asked() == expected
    assert service.stop() == 0


def test_sigusr2_upgrades(make_service: MakeService) -> None:
    service = make_service().start()
    service.signal(signal.SIGUSR2)
    service.wait_for_status(r"generation 2; reloaded at ")
    assert service.stop() == 0


def descriptors_of(pid: int) -> Counter[str]:
    return Counter(re.sub(r"[\d\[\]]+", "", target) for target in open_files(pid).values())


def test_many_upgrades_leave_nothing_behind(make_service: MakeService) -> None:
    service = make_service().start()

    def held() -> list[Counter[str]] | None:
        """The kinds of descriptors of each process, once these are master, template, spare and two workers."""
        pids = service.pid, *sorted(descendants(service.pid))
        try:
            return [descriptors_of(pid) for pid in pids] if len(pids) == PROCESSES else None
        except FileNotFoundError:  # One of them was closed, or a process has ended.
            return None

    def is_no_more_than_before() -> bool:
        now = held()
        return now is not None and all(map(Counter.__le__, now, before))

    service.reload()
    before = wait_until(held, "what it holds")
    for _ in range(UPGRADES):
        upgraded(service)
    wait_until(is_no_more_than_before, f"no more than before: {before}, and now: {held()}")
    assert service.stop() == 0


OTHER_LAYOUT = "its workers use another layout of the protocol than clusterd .*: systemctl restart clusterd"
CANNOT = {
    "syntax": ("cli/command.py", "^import gc$", "import gc (", "the new program cannot be started: SyntaxError"),
    "import": ("cli/command.py", "^import gc$", "import no_such_thing", "No module named 'no_such_thing'"),
    "protocol": ("wire/messages.py", "^PROTOCOL_VERSION = .*$", "PROTOCOL_VERSION = 10**6", OTHER_LAYOUT),
    "format": ("master/takeover/state.py", "^FORMAT = 1$", "FORMAT = 2", "its state has the format 1, and .* reads 2"),
    "snapshot": ("supervisor/snapshot.py", "^VERSION = 1$", "VERSION = 2", "the state is of version 1, and this"),
    "field": (
        "supervisor/model/cluster.py",
        "^    wanted: int",
        "    needed: int",
        "there is no wanted in ClusterState",
    ),
    "exit": ("cli/command.py", "^import gc$", "raise SystemExit", "the new program cannot be started: it said nothing"),
}


@pytest.mark.parametrize("what", CANNOT)
def test_a_program_that_cannot_go_on_changes_nothing_and_says_why(
    make_service: MakeService, installed: Installed, what: str
) -> None:
    module, pattern, by, why = CANNOT[what]
    service = make_service()
    service.environment = installed.environment
    service.start()
    before = service.workers()
    installed.change(module, pattern, by)
    done = service.clusterctl("upgrade")
    assert done.returncode == 1
    assert re.search(f"^nothing has changed: .*{why}", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    service.wait_for_line(f"the upgrade is refused, and nothing has changed: .*{why}")
    assert [worker["pid"] for worker in service.workers()] == [worker["pid"] for worker in before]
    assert service.ask().generation == 1
    assert service.stop() == 0


def test_a_configuration_that_cannot_be_read_changes_nothing(make_service: MakeService) -> None:
    service = make_service().start()
    service.config.write_text("workers: many\n")
    done = service.clusterctl("upgrade")
    assert (done.returncode, "workers" in done.stderr) == (1, True)
    assert done.stderr.startswith("nothing has changed: clusterd ")
    service.configure()
    upgraded(service)


def test_a_bad_deploy_is_withdrawn_after_the_upgrade(make_service: MakeService) -> None:
    service = make_service().start()
    before = pids_of(service)
    service.deploy("2", "import nothing_of_that_name\n")
    done = service.clusterctl("upgrade")
    assert (done.returncode, done.stdout.count("\n")) == (3, 1)
    assert re.search(r"^clusterd \S+ runs, but its rollout has failed: .*nothing_of_that_name", done.stderr)
    assert pids_of(service) == before
    assert service.ask().version == "1"
    service.deploy("3")
    upgraded(service)
    assert service.ask().version == "3"


def in_between(service: Service, installed: Installed, happen: Callable[[], None]) -> None:
    """Have something happen between the two programs."""
    installed.change("cli/clusterd.py", r"^import sys$", "import sys" + SLOW)
    service.signal(signal.SIGUSR2)
    begun = service.directory / "the new program has begun"
    wait_until(begun.exists, "the new program has begun")
    happen()
    (service.directory / "go on").touch()


def test_workers_serve_between_the_two_programs(make_service: MakeService, installed: Installed) -> None:
    service = make_service()
    service.environment = installed.environment
    service.start()
    served: set[int] = set()
    before = pids_of(service)
    in_between(service, installed, lambda: served.update(service.ask().pid for _ in range(20)))
    assert served <= before
    service.wait_for_status(r"generation 2; reloaded at ")


@pytest.mark.parametrize("kind", ["worker", "template", "spare"])
def test_a_death_between_the_two_programs_is_noticed(
    make_service: MakeService, installed: Installed, kind: str
) -> None:
    service = make_service()
    service.environment = installed.environment
    service.start()

    def one() -> int | None:
        titles = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(service.pid)}
        return next((pid for pid, title in titles.items() if title.startswith(f"clusterd: {kind}")), None)

    victim = wait_until(one, f"there is a {kind}")
    in_between(service, installed, lambda: os.kill(victim, signal.SIGKILL))
    service.wait_for_status(r"^Serving: 2 workers, generation 2; reloaded at ")
    assert not Path(f"/proc/{victim}").exists()
    assert service.ask().generation == 2
    assert service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGURG])
def test_a_stop_between_the_two_programs_is_heeded(
    make_service: MakeService, installed: Installed, number: signal.Signals
) -> None:
    service = make_service()
    service.environment = installed.environment
    service.start()
    in_between(service, installed, lambda: service.signal(number))
    assert service.wait() == 0
    service.wait_for_line("clusterd ends: asked to stop")


def test_commands_between_the_two_programs_are_carried_out(make_service: MakeService, installed: Installed) -> None:
    service = make_service()
    service.environment = installed.environment
    service.start()
    told: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: told.append(service.ask_to("scale", workers="3")))

    def ask() -> None:
        asking.start()
        service.signal(signal.SIGHUP)

    in_between(service, installed, ask)
    asking.join()
    assert told[0]["succeeded"], told
    service.wait_for_status(r"^Serving: \d workers, generation [23]; reloaded at ")


def test_one_that_follows_the_events_is_told(make_service: MakeService) -> None:
    service = make_service().start()
    told: list[dict[str, Any]] = []
    following = threading.Thread(target=lambda: told.append(service.ask_to("events", follow=True)))
    following.start()
    upgraded(service)
    following.join()
    assert told[0]["text"] == "clusterd is upgraded: ask again to follow what comes now"


def test_the_hooks_know_the_workers_of_before(tmp_path: Path) -> None:
    service = Hooked(tmp_path)
    try:
        service.start()
        first, before = service.hooks_pid(), service.pids()
        for slot in before:
            service.wait_to_hear("listening", slot, 1)
        said = len(service.lines)
        upgraded(service)
        assert service.hooks_pid() != first
        for slot, pid in before.items():
            # The hooks of the new program were told of a worker that it has not forked.
            assert service.wait_to_hear("exit", slot, 1, pid, after=said)[4:] == [0, None, True, True]
            service.wait_to_hear("listening", slot, 2, after=said)
        assert service.stop() == 0
    finally:
        service.destroy()
        print(service.log())


def test_a_program_that_is_its_own_master_is_not_replaced(tmp_path: Path) -> None:
    with program(tmp_path) as started:
        done = started.clusterctl("upgrade")
        assert (done.returncode, done.stdout) == (1, "")
        assert "a program that is its own master is replaced by starting it anew" in done.stderr
        assert started.ask().generation == 1


def test_only_a_running_master_asks_whether_a_program_can_adopt(make_service: MakeService) -> None:
    service = make_service()
    service.flags = ("--can-adopt",)
    service.start(wait=False)
    assert service.wait() == 1
    assert "only a running master asks this: use clusterctl upgrade" in service.log()


def test_an_upgrade_waits_for_a_reload_in_which_round_robin_goes_on(make_service: MakeService) -> None:
    service = make_service(scheduling="round_robin").start()
    service.deploy("2", f"import os, time\nwhile not os.path.exists('imported'):\n    time.sleep(0.01)\n{HELLO}")
    service.signal(signal.SIGHUP)
    service.wait_for_line("starting a template generation=2")
    told: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: told.append(service.ask_to("upgrade")))
    asking.start()
    service.wait_for_line("upgrade asked for")
    assert {service.ask().generation for _ in range(20)} == {1}
    (service.directory / "imported").touch()
    asking.join()
    assert told[0]["succeeded"], told
    service.wait_for_status(r"generation 3; reloaded at ")
    assert {service.ask().generation for _ in range(5)} == {3}


BEFORE_THE_EXEC = """
        open("it is about to go", "w").close()
        __import__("time").sleep(0.5)
        state = self._collector.collect()"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_right_before_the_exec_is_heeded(
    make_service: MakeService, installed: Installed, number: signal.Signals
) -> None:
    service = make_service()
    service.environment = installed.environment
    installed.change("master/takeover/upgrade.py", r"^        state = self\._collector\.collect\(\)$", BEFORE_THE_EXEC)
    service.start()
    service.signal(signal.SIGUSR2)
    wait_until((service.directory / "it is about to go").exists, "it is about to go")
    service.signal(number)
    if number is signal.SIGTERM:
        assert service.wait() == 0
        service.wait_for_line("clusterd ends: asked to stop")
    else:
        service.wait_for_line("rollout 2 begins")


def test_round_robin_accepts_while_an_upgrade_waits_for_a_silent_client(make_service: MakeService) -> None:
    service = make_service(scheduling="round_robin").start()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(service.control))
        service.signal(signal.SIGUSR2)
        service.wait_for_line("can go on in this process")
        # It waits for this client, for 5 s. Requests that waited for the new program would be answered after that line.
        for _ in range(10):
            assert service.get().status_code == 200
        assert "goes on in this process" not in service.log()
    service.wait_for_status(r"generation 2; reloaded at ")


def test_a_program_that_cannot_be_executed_goes_on_as_it_was(make_service: MakeService, installed: Installed) -> None:
    service = make_service()
    service.environment = installed.environment
    installed.change(
        "master/takeover/upgrade.py", r"os\.execve\(sys\.executable, _command\(\)", 'os.execve("/nonexistent", ["x"]'
    )
    service.start()
    done = service.clusterctl("upgrade")
    assert (done.returncode, "generation 2 serves" in done.stdout) == (0, True)
    service.wait_for_line("cannot be executed, and this program goes on: No such file or directory")
    service.signal(signal.SIGHUP)  # And heeds signals.
    service.wait_for_line("reload succeeded, generation 3 serves")
    assert service.log().count("goes on in this process") == 1
    assert service.stop() == 0
