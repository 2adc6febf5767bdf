"""The harness itself: what the other tests stand on."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.machines.machine import Machine, booted
from tests.support.machines.roots import cached_root
from tests.support.service import wait_until

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


# Boots the root that it is given, says which process is PID 1 inside, and waits.
_BOOTS = """
import signal, sys
from pathlib import Path
from tests.support.machines.machine import booted

with booted("any", Path(sys.argv[1])) as machine:
    print(machine.leader, flush=True)
    signal.pause()
"""


def test_a_machine_does_not_outlive_tests_that_are_killed(suite_root: tuple[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", _BOOTS, str(suite_root[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tests:
        assert tests.stdout is not None
        leader = int(tests.stdout.readline())
        groups = control_groups(leader)
        tests.kill()
    wait_until(lambda: not Path(f"/proc/{leader}").exists(), "the machine is gone")
    wait_until(lambda: removed(groups), "its control groups are empty")


def control_groups(pid: int) -> list[Path]:
    """The directories of the machine in which this process is."""
    names = re.findall(r"/(clusterd-system-\w+)", Path(f"/proc/{pid}/cgroup").read_text())
    return [group for name in set(names) for group in Path("/sys/fs/cgroup").glob(f"**/{name}")]


def removed(groups: list[Path]) -> bool:
    """Remove them, if no process is left in them."""
    try:
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                Path(directory).rmdir()
    except OSError:
        return False
    return True
