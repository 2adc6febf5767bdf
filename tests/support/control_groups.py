"""Control groups of the kernel's, with a limit, for the services of tests."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.service import Service, wait_until

_MOUNTED = Path("/sys/fs/cgroup")


@contextmanager
def group_with_memory(limit: int) -> Iterator[Path]:
    """A group with a limit. Skips the test where none can be made; where tests gate a change, fails it."""
    version_1 = _MOUNTED / "memory"
    group = (version_1 if version_1.is_dir() else _MOUNTED) / f"clusterd-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if version_1.is_dir() else "memory.max")).write_text(str(limit))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        message = f"no control group for memory can be made here: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    yield group
    # Its processes have been ended, and leave it a moment later.
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


def put_into(group: Path, service: Service) -> None:
    """Have a service start in a group."""
    service.inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
