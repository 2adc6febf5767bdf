"""systemctl reload: good deploys lose nothing, broken ones change nothing."""

from contextlib import ExitStack

import pytest

from tests.system import deployment
from tests.system.asking import ask
from tests.system.crowd import crowd
from tests.system.deployment import CONFIG, configure, deploy, start
from tests.system.machine import Machine

RELOADS = 20


def test_twenty_reloads_under_load_lose_nothing_and_close_nothing(machine: Machine) -> None:
    start(machine)
    with ExitStack() as crowds:
        kept = [
            crowds.enter_context(crowd(machine, "--clients", clients, "--think", think))
            for clients, think in (("10", "0.02"), ("30", "0.2"))
        ]
        fresh = crowds.enter_context(crowd(machine, "--clients", "4", "--connection", "fresh"))
        for number in range(RELOADS):
            deploy(machine, f"release-{number}")
            machine.systemctl("reload", "clusterd.service")
    assert [seen.result.lost for seen in (*kept, fresh)] == [{}, {}, {}]
    assert [seen.result.closed for seen in kept] == [0, 0]
    versions = {"one", *(f"release-{number}" for number in range(RELOADS))}
    assert set(kept[0].result.answers) == versions
    assert ask(machine).text.startswith(f"release-{RELOADS - 1} {RELOADS + 1} ")


# What is deployed, what the configuration gains for it, and what the journal must say.
BROKEN = {
    "syntax error": (deployment.SYNTAX_ERROR, "", r"SyntaxError"),
    "import fails": (deployment.IMPORT_FAILS, "", r"a_module_that_is_not_there"),
    "worker start fails": (
        deployment.FAILS_IN_THE_WORKER,
        "worker_start: application:worker_start\n",
        r"the database is not there",
    ),
    "hangs at import": (deployment.HANGS_AT_IMPORT, "", r"boot_timeout"),
    "health check answers 500": (deployment.ANSWERS_500, "", r"500"),
    "broken configuration": (deployment.GOOD, "wokers: 3\n", r"clusterd\.yaml:\d+:\d+: wokers"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_deploy_fails_the_reload_and_changes_nothing(machine: Machine, kind: str) -> None:
    source, addition, says = BROKEN[kind]
    start(machine)
    good = CONFIG.replace("boot_timeout: 20s", "boot_timeout: 6s, health_check: {path: /, expect: 2xx}")
    with crowd(machine, "--clients", "8") as seen:
        deploy(machine, "broken", source)
        configure(machine, good + addition)
        reload = machine.run("systemctl", "reload", "clusterd.service", check=False)
        assert reload.returncode != 0
        machine.wait_for_journal(says, "--unit=clusterd.service", seconds=10)
        assert "FAILED" in machine.property("clusterd.service", "StatusText")
        assert machine.property("clusterd.service", "ActiveState") == "active"
        assert ask(machine).text.startswith("one 1 ")
        configure(machine, good)
        deploy(machine, "mended")
        machine.systemctl("reload", "clusterd.service")
        assert ask(machine).text.startswith("mended ")
        assert "FAILED" not in machine.property("clusterd.service", "StatusText")
    assert (seen.result.lost, seen.result.closed) == ({}, 0)
    assert set(seen.result.statuses) == {"200"}


def test_a_first_start_that_fails_ends_and_two_commands_recover_it(machine: Machine) -> None:
    deploy(machine, "broken", deployment.IMPORT_FAILS)
    configure(machine)
    assert machine.run("systemctl", "start", "clusterd.service", check=False).returncode != 0
    machine.wait_for_journal("Start request repeated too quickly", "--unit=clusterd.service")
    assert machine.property("clusterd.service", "ActiveState") == "failed"
    assert "a_module_that_is_not_there" in machine.systemctl("status", "clusterd.service", check=False)
    deploy(machine, "mended")
    machine.systemctl("reset-failed", "clusterd.service", "clusterd.socket")
    machine.systemctl("start", "clusterd.socket", "clusterd.service")
    assert ask(machine).text.startswith("mended ")


def test_a_broken_configuration_is_not_tried_again(machine: Machine) -> None:
    deploy(machine, "one")
    configure(machine, CONFIG + "workers: minus two\n")
    assert machine.run("systemctl", "start", "clusterd.service", check=False).returncode != 0
    assert machine.property("clusterd.service", "ExecMainStatus") == "78"
    assert machine.property("clusterd.service", "NRestarts") == "0"
    assert "clusterd.yaml:" in machine.journal("--unit=clusterd.service")
