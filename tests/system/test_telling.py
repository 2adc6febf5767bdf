"""What operators are told, and by whom: systemctl status, the journal and its fields, the metrics, clusterctl."""

import json
import re

from tests.support.machines.asking import ask, start_asking
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import (
    ANSWERS_500,
    CONFIG,
    FAILS_IN_THE_WORKER,
    GOOD,
    HANGS_AT_IMPORT,
    IMPORT_FAILS,
    SYNTAX_ERROR,
    WAITS,
    configure,
    deploy,
    start,
)
from tests.support.machines.machine import Machine
from tests.support.service import wait_until

METRICS = "http://127.0.0.1:8001/metrics"


def _series(machine: Machine, name: str, label: str = "worker") -> dict[str, float]:
    """The samples of a metric, summed for each value of a label."""
    answer = ask(machine, METRICS)
    assert answer.status == 200, answer
    found: dict[str, float] = {}
    for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", answer.text, re.MULTILINE):
        key = dict(re.findall(r'(\w+)="([^"]*)"', labels)).get(label, "")
        found[key] = found.get(key, 0.0) + float(value)
    return found


def _reload(machine: Machine) -> int:
    return machine.run("systemctl", "reload", "clusterd.service", check=False).returncode


def _status(machine: Machine) -> str:
    return machine.systemctl("status", "--full", "clusterd.service", check=False)


def _generation(machine: Machine, url: str = "http://127.0.0.1:8000/") -> tuple[str, int]:
    """Which version answers, and of which generation."""
    version, generation, _ = ask(machine, url).text.split()
    return version, int(generation)


_WITH_HOOK = CONFIG + "worker_start: application:worker_start\n"
_WITH_CHECK = CONFIG.replace("settle: 200ms", "settle: 200ms, health_check: {path: /}")
_IMPATIENT = CONFIG.replace("boot_timeout: 20s", "boot_timeout: 2s")

# What is deployed, the configuration with it, and what status and journal must say.
_BROKEN = {
    "syntax": (SYNTAX_ERROR, CONFIG, "SyntaxError"),
    "import": (IMPORT_FAILS, CONFIG, "No module named 'a_module_that_is_not_there'"),
    "hang": (HANGS_AT_IMPORT, _IMPATIENT, "not imported within rollout.boot_timeout (2 s)"),
    "worker": (FAILS_IN_THE_WORKER, _WITH_HOOK, "the database is not there"),
    "health": (ANSWERS_500, _WITH_CHECK, "500"),
    "yaml": (GOOD, CONFIG + "threads: [\n", "/etc/clusterd/clusterd.yaml:"),
    "setting": (GOOD, CONFIG + "wurkers: 2\n", "did you mean 'workers'?"),
}


def test_a_broken_deploy_changes_nothing_and_says_why(machine: Machine) -> None:
    start(machine)
    with crowd(machine) as clients:
        for version, (source, config, reason) in _BROKEN.items():
            deploy(machine, version, source)
            configure(machine, config)
            assert _reload(machine) != 0, version
            status = _status(machine)
            assert "Active: active (running)" in status, version
            (line,) = [line for line in status.splitlines() if line.strip().startswith("Status:")]
            assert "reload FAILED" in line, version
            assert reason in line, version
            assert reason in machine.journal("-u", "clusterd.service", "-p", "err"), version
            assert _generation(machine) == ("one", 1), version
        assert _series(machine, "clusterd_config_last_reload_successful") == {"": 0.0}
        deploy(machine, "two")
        configure(machine)
        assert _reload(machine) == 0
        assert "FAILED" not in machine.property("clusterd.service", "StatusText")
        assert _generation(machine)[0] == "two"
    assert clients.result.lost == {}
    assert clients.result.closed == 0
    # A worker that was not yet to be trusted may answer nobody.
    assert set(clients.result.answers) <= {"one", "two"}
    assert _series(machine, "clusterd_config_last_reload_successful") == {"": 1.0}


def test_a_traceback_is_an_error_in_the_journal_with_every_line(machine: Machine) -> None:
    start(machine)
    deploy(machine, "broken", IMPORT_FAILS)
    assert _reload(machine) != 0
    lines = machine.journal("-u", "clusterd.service", "-p", "err").splitlines()
    first = lines.index("Traceback (most recent call last):")
    assert [line.strip() for line in lines[first + 1 : first + 4]] == [
        'File "/srv/app/releases/broken/application.py", line 1, in <module>',
        "import a_module_that_is_not_there",
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    ]


def test_a_killed_worker_is_counted_by_reason_and_found_by_its_fields(machine: Machine) -> None:
    start(machine)
    # What is on disk by now plays no part.
    deploy(machine, "broken", SYNTAX_ERROR)
    _, _, killed = ask(machine).text.split()
    machine.run("sh", "-c", f"kill -KILL {killed}")
    wait_until(lambda: sum(_series(machine, "clusterd_worker_restarts_total", "reason").values()), "counted")
    assert _series(machine, "clusterd_worker_restarts_total", "reason")["signal"] == 1
    wait_until(lambda: sum(_series(machine, "clusterd_worker_up").values()) == 2, "a replacement")
    fields = ("CLUSTERD_REASON=signal", f"CLUSTERD_PID={killed}")
    entry = json.loads(machine.run("journalctl", "--output=json", *fields).stdout)
    assert "SIGKILL" in entry["MESSAGE"]
    assert entry["CLUSTERD_GENERATION"] == "1"
    assert entry["CLUSTERD_SLOT"] in ("1", "2")
    assert (entry["PRIORITY"], entry["_SYSTEMD_UNIT"]) == ("3", "clusterd.service")
    workers = machine.run("clusterctl", "--socket", "/run/clusterd/control.sock", "status").stdout
    assert killed not in re.findall(r"\d+", workers.partition("slot")[2])
    assert _generation(machine) == ("one", 1)


def test_a_stop_answers_every_request_that_is_under_way(machine: Machine) -> None:
    start(machine)
    deploy(machine, "waits", WAITS)
    assert _reload(machine) == 0
    asked = [start_asking(machine, "http://127.0.0.1:8000/wait") for _ in range(6)]
    with crowd(machine) as clients:
        wait_until(lambda: sum(_series(machine, "clusterd_http_requests_in_flight").values()) >= 6, "requests")
        stop = machine.start("systemctl", "stop", "clusterd.socket", "clusterd.service")
        wait_until(lambda: "Stopping" in machine.property("clusterd.service", "StatusText"), "the stop")
        machine.write("/srv/app/release", "")
        output, errors = stop.communicate(timeout=60)
        assert stop.returncode == 0, output + errors
    for process in asked:
        output, _ = process.communicate(timeout=60)
        assert output.splitlines()[:1] == ["200"], output
        assert output.splitlines()[1].startswith("waits ")
    assert set(clients.result.lost) <= {"ConnectionRefusedError on a new connection"}, clients.result
    for unit in ("clusterd.service", "clusterd.socket", "clusterd-metrics.socket"):
        assert machine.property(unit, "ActiveState") == "inactive", unit
    assert machine.property("clusterd.service", "Result") == "success"
    machine.systemctl("start", "clusterd")
    assert _generation(machine) == ("waits", 1)
    assert _series(machine, "clusterd_worker_up") == {"1": 1.0, "2": 1.0}


def test_a_first_start_that_fails_says_why_and_gives_up(machine: Machine) -> None:
    deploy(machine, "broken", IMPORT_FAILS)
    configure(machine)
    assert machine.run("systemctl", "start", "clusterd", check=False).returncode != 0
    assert machine.property("clusterd.service", "ActiveState") == "failed"
    assert machine.property("clusterd.service", "ExecMainStatus") == "70"
    assert machine.property("clusterd.service", "NRestarts") == "0"
    status = _status(machine)
    for line in (
        "Traceback (most recent call last):",
        'File "/srv/app/releases/broken/application.py", line 1, in <module>',
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
    ):
        assert line in status, status
        assert line in machine.journal("-u", "clusterd.service", "-p", "err")
