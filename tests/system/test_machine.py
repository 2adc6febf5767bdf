"""The harness itself: what the other tests stand on."""

import os
from pathlib import Path

from tests.support.machines.machine import Machine, booted
from tests.support.machines.roots import cached_root

_SERVICE = """
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep infinity'
"""


def test_boots_with_systemd_as_the_first_process(bare_machine: Machine) -> None:
    version = bare_machine.systemctl("--version").split()[1]
    assert version == {"bookworm": "252", "trixie": "257"}[bare_machine.suite]
    assert bare_machine.systemctl("is-system-running").strip() == "running"


def test_runs_a_service_and_reads_its_journal(bare_machine: Machine) -> None:
    bare_machine.write("/etc/systemd/system/trivial.service", _SERVICE)
    bare_machine.systemctl("daemon-reload")
    bare_machine.systemctl("start", "trivial.service")
    assert bare_machine.property("trivial.service", "ActiveState") == "active"
    assert "Started" in bare_machine.journal("-u", "trivial.service")


def test_leaves_nothing_behind_and_its_root_untouched(suite_root: tuple[str, Path]) -> None:
    suite, root = suite_root
    with booted(suite, root) as machine:
        machine.write("/etc/left-behind", "")
        leader = machine.leader
        namespace = os.readlink(f"/proc/{leader}/ns/pid")
    assert not (root / "etc/left-behind").exists()
    assert namespace not in _pid_namespaces()
    assert str(cached_root(suite)) not in Path("/proc/self/mountinfo").read_text()


def _pid_namespaces() -> set[str]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.add(os.readlink(process / "ns/pid"))
        except OSError:
            continue
    return found
