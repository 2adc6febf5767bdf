"""systemctl reload: good deploys lose nothing, broken ones change nothing."""

from contextlib import ExitStack

import pytest

from tests.support.machines.asking import ask
from tests.support.machines.crowd import crowd
from tests.support.machines.deployment import CONFIG, configure, deploy, start
from tests.support.machines.machine import Machine
from tests.support.machines.reliability import Seen, record

RELOADS = 20


@pytest.mark.operate
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
    record(machine, "twenty reloads (44 clients)", Seen((*kept, fresh)))
    assert [seen.result.closed for seen in kept] == [0, 0]
    versions = {"one", *(f"release-{number}" for number in range(RELOADS))}
    assert set(kept[0].result.answers) == versions
    assert ask(machine).text.startswith(f"release-{RELOADS - 1} {RELOADS + 1} ")


def test_a_broken_configuration_is_not_tried_again(machine: Machine) -> None:
    deploy(machine, "one")
    configure(machine, CONFIG + "workers: minus two\n")
    assert machine.run("systemctl", "start", "clusterd.service", check=False).returncode != 0
    assert machine.property("clusterd.service", "ExecMainStatus") == "78"
    assert machine.property("clusterd.service", "NRestarts") == "0"
    assert "clusterd.yaml:" in machine.journal("--unit=clusterd.service")
