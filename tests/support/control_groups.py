"""Control groups of the kernel's, with a limit, for the services of tests."""

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.service import Service, wait_until

_MOUNTED = Path("/sys/fs/cgroup")


@contextmanager
def group_with(controller: str, limits: dict[str, str]) -> Iterator[Path]:
    """A group with limits, by the names of their files. Skips the test where none can be made; where tests gate a
    change, fails it.
    """
    version_1 = _MOUNTED / controller
    group = (version_1 if version_1.is_dir() else _MOUNTED) / f"clusterd-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
        for name, limit in limits.items():
            (group / name).write_text(limit)
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        message = f"no control group for {controller} can be made here: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    yield group
    # Its processes have been ended, and leave it a moment later.
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


def group_with_memory(limit: int) -> AbstractContextManager[Path]:
    """A group whose processes may have `limit` bytes together."""
    name = "memory.limit_in_bytes" if (_MOUNTED / "memory").is_dir() else "memory.max"
    return group_with("memory", {name: str(limit)})


def group_with_tasks() -> AbstractContextManager[Path]:
    """A group whose `pids.max` a test may set: how many processes and threads it may have."""
    return group_with("pids", {"pids.max": "max"})


def group_with_cpus(number: int) -> AbstractContextManager[Path]:
    """A group whose processes may use as much time as `number` CPUs have."""
    if (_MOUNTED / "cpu").is_dir():
        return group_with("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": str(number * 100_000)})
    return group_with("cpu", {"cpu.max": f"{number * 100_000} 100000"})


def put_into(group: Path, service: Service) -> None:
    """Have a service start in a group."""
    service.inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
