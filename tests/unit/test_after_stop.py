"""Whether the end of a master is the end of the service."""

import sys
from pathlib import Path

import pytest

from clusterd.cli import after_stop
from clusterd.cli.failed_start import LEFT_FAILED
from clusterd.systemd import stopping
from clusterd.systemd.control_group import service_group

pytestmark = pytest.mark.engine_independent

_UNITS = Path(__file__).parents[2] / "packaging/systemd"


@pytest.mark.parametrize(
    ("result", "code", "status", "is_flagged", "ends"),
    [
        # A master that died: the next one goes on.
        ("signal", "killed", "KILL", False, False),
        ("core-dump", "dumped", "SEGV", False, False),
        ("watchdog", "killed", "KILL", False, False),
        ("watchdog", "dumped", "ABRT", False, False),
        ("oom-kill", "killed", "KILL", False, False),
        ("exit-code", "exited", "75", False, False),
        ("exit-code", "exited", "1", False, False),
        # One that cannot ever start, or that ended as it was asked to.
        ("exit-code", "exited", "70", False, True),
        ("exit-code", "exited", "78", False, True),
        ("success", "exited", "0", False, True),
        # systemd has lost its patience.
        ("timeout", "killed", "KILL", False, True),
        ("timeout", "exited", "0", False, True),
        ("start-limit-hit", "", "", False, True),
        ("resources", "", "", False, True),
        ("protocol", "exited", "0", False, True),
        # One that was stopping when it died.
        ("signal", "killed", "KILL", True, True),
        ("watchdog", "killed", "KILL", True, True),
        ("oom-kill", "killed", "KILL", True, True),
        ("exit-code", "exited", "75", True, True),
        ("success", "exited", "0", True, True),
    ],
)
def test_the_end_of_a_master(result: str, code: str, status: str, is_flagged: bool, ends: bool) -> None:
    environ = {"SERVICE_RESULT": result, "EXIT_CODE": code, "EXIT_STATUS": status}
    assert stopping.is_the_end(environ, is_flagged=is_flagged) is ends


def test_the_statuses_without_a_restart_are_those_of_the_program_and_of_the_units() -> None:
    assert {str(int(each)) for each in LEFT_FAILED} == stopping.NEVER_AGAIN
    for unit in ("clusterd.service", "clusterd@.service"):
        assert f"\nRestartPreventExitStatus={' '.join(sorted(stopping.NEVER_AGAIN))}\n" in (_UNITS / unit).read_text()


def test_a_flag_is_left_and_removed(tmp_path: Path) -> None:
    directory = str(tmp_path)
    stopping.remove_flag(directory)
    assert not stopping.has_flag(directory)
    stopping.leave_flag(directory)
    stopping.leave_flag(directory)
    assert stopping.has_flag(directory)
    stopping.remove_flag(directory)
    assert not stopping.has_flag(directory)


def test_without_a_directory_there_is_no_flag() -> None:
    stopping.leave_flag(None)
    stopping.remove_flag(None)
    assert not stopping.has_flag(None)


@pytest.mark.parametrize(
    ("result", "status", "by_itself"),
    [
        ("signal", "KILL", False),  # By an operator, or by the kernel for want of memory.
        ("signal", "SEGV", True),
        ("core-dump", "SEGV", True),
        ("watchdog", "KILL", True),
        ("watchdog", "STKFLT", True),
        ("oom-kill", "KILL", True),
        ("exit-code", "1", True),
    ],
)
def test_the_next_master_is_told_whether_the_last_one_died_by_itself(
    tmp_path: Path, result: str, status: str, by_itself: bool
) -> None:
    directory = str(tmp_path)
    environ = {"SERVICE_RESULT": result, "EXIT_STATUS": status}
    for _ in range(2):
        stopping.note_death(directory, environ)
        assert stopping.take_note_of_death(directory) is by_itself
        assert not stopping.take_note_of_death(directory)


def test_only_the_last_death_counts(tmp_path: Path) -> None:
    directory = str(tmp_path)
    stopping.note_death(directory, {"SERVICE_RESULT": "core-dump", "EXIT_STATUS": "SEGV"})
    stopping.note_death(directory, {"SERVICE_RESULT": "signal", "EXIT_STATUS": "KILL"})
    assert not stopping.take_note_of_death(directory)
    stopping.note_death(None, {"SERVICE_RESULT": "core-dump", "EXIT_STATUS": "SEGV"})
    assert not stopping.take_note_of_death(None)


def test_the_program_leaves_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["clusterd-after-stop", "1"])
    for name, value in {
        "SERVICE_RESULT": "core-dump",
        "EXIT_STATUS": "SEGV",
        "RUNTIME_DIRECTORY": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert after_stop.main() == 0
    assert stopping.take_note_of_death(str(tmp_path))


@pytest.mark.parametrize(
    ("lines", "group"),
    [
        (["0::/system.slice/clusterd.service"], "/system.slice/clusterd.service"),
        (["0::/system.slice/clusterd.service/.control"], "/system.slice/clusterd.service"),
        (["3:memory:/", "1:name=systemd:/system.slice/clusterd.service", "0::/"], "/system.slice/clusterd.service"),
        (["0::/user.slice/user-0.slice/session-1.scope"], None),
        (["4:memory:/system.slice/clusterd.service", "0::/"], None),
        (["0::/"], None),
        ([], None),
    ],
)
def test_only_the_group_of_a_service_is_ended(lines: list[str], group: str | None) -> None:
    assert service_group(lines) == group
