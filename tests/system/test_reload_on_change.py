"""clusterd-reload.path: whoever changes a file or a link needs to call nobody."""

import os

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.deployment import CONFIG, CURRENT, IMPORT_FAILS, configure, deploy, start
from tests.support.machines.machine import Machine
from tests.support.service import wait_until

LINK = f"[Path]\nPathChanged={os.path.dirname(CURRENT)}\n"


def watch(machine: Machine, name: str = "clusterd-reload.path") -> None:
    """As docs/deploying.md says."""
    machine.write(f"/etc/systemd/system/{name}.d/link.conf", LINK)
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--now", name)


def version_served(machine: Machine, version: str) -> None:
    wait_until(lambda: ask(machine).text.startswith(f"{version} "), f"{version} is served")


def test_a_switched_link_and_a_changed_configuration_are_reloaded(machine: Machine) -> None:
    assert machine.property("clusterd-reload.path", "UnitFileState") == "disabled"
    start(machine)
    watch(machine)
    deploy(machine, "two")
    version_served(machine, "two")
    machine.wait_for_journal("reload succeeded, generation 2", "-u", "clusterd")
    configure(machine, CONFIG.replace("workers: 2", "workers: 3"))
    machine.wait_for_journal("reload succeeded, generation 3", "-u", "clusterd")
    assert machine.systemctl("status", "clusterd.service").count("3 workers") > 0
    # Both at once are one.
    configure(machine)
    deploy(machine, "three")
    machine.wait_for_journal("reload succeeded, generation 4", "-u", "clusterd")
    assert ask(machine).text.startswith("three 4 ")


def test_a_deploy_during_a_rollout_is_not_missed(machine: Machine) -> None:
    start(machine)
    watch(machine)
    for number in range(1, 5):
        deploy(machine, f"release-{number}")
        machine.wait_for_journal(f"rollout {number} begins", "-u", "clusterd")
    deploy(machine, "last")
    version_served(machine, "last")


def test_a_bad_deploy_changes_nothing_and_the_next_one_mends_it(machine: Machine) -> None:
    start(machine)
    watch(machine)
    deploy(machine, "broken", IMPORT_FAILS)
    machine.wait_for_journal("reload failed, generation 1 serves on", "-u", "clusterd")
    assert ask(machine).text.startswith("one 1 ")
    assert machine.property("clusterd.service", "ActiveState") == "active"
    deploy(machine, "mended")
    version_served(machine, "mended")


def test_a_clusterd_that_is_stopped_stays_so_and_a_removed_one_is_not_watched(machine: Machine) -> None:
    start(machine)
    watch(machine)
    machine.systemctl("stop", "clusterd.socket", "clusterd.service")
    deploy(machine, "two")
    machine.wait_for_journal("Finished .*Reload clusterd after a change", "-u", "clusterd-reload.service")
    assert machine.property("clusterd.service", "ActiveState") == "inactive"
    assert machine.systemctl("is-system-running").strip() == "running"
    machine.run("dpkg", "--purge", "clusterd")
    assert machine.property("clusterd-reload.path", "ActiveState") == "inactive"


def test_an_instance_is_watched_by_its_own_unit(machine: Machine) -> None:
    deploy(machine, "one")
    configure(machine, name="second")
    machine.systemctl("enable", "--now", "clusterd@second.socket")
    machine.systemctl("start", "clusterd@second.service")
    watch(machine, "clusterd-reload@second.path")
    deploy(machine, "two")
    served = "/run/clusterd-second.http.sock"
    wait_until(lambda: ask_unix(machine, served).text.startswith("two 2 "), "two is served")
    configure(machine, CONFIG.replace("workers: 2", "workers: 1"), name="second")
    machine.wait_for_journal("reload succeeded, generation 3", "-u", "clusterd@second")
