"""A worker that the kernel kills for want of memory, in a control group of its own that has little."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.support.service import HELLO, Service, wait_until

MakeService = Callable[..., Service]

MEMORY = 192 << 20
EATS = HELLO.replace(
    "    body",
    '    if environ["PATH_INFO"] == "/eat":\n        eaten = [b"x" * (1 << 20) for _ in range(1 << 20)]\n    body',
    1,
)


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A group with a limit; skips the test where none can be made."""
    name = f"clusterd-test-{secrets.token_hex(4)}"
    version_1 = Path("/sys/fs/cgroup/memory")
    group = (version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")) / name
    limit = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(MEMORY))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group for memory can be made here: {error}")
    yield group
    # Its processes have been ended, and leave it a moment later.
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


def test_a_worker_that_the_kernel_kills_for_memory_is_called_so(little_memory: Path, make_service: MakeService) -> None:
    service = make_service(workers=2)
    service.inside = ("sh", "-c", f'echo $$ > {little_memory}/cgroup.procs && exec "$@"', "sh")
    service.deploy("1", EATS)
    service.start()
    try:
        with pytest.raises(requests.ConnectionError):
            service.get("/eat")
        service.wait_for_line("worker failed: SIGKILL by the kernel, probably for want of memory .*reason=oom")
        service.wait_for_status("^Serving: 2 workers, generation 1$")
        assert 'reason="oom",worker="' in service.metrics().text
        os.kill(service.workers()[0]["pid"], 9)
        service.wait_for_line("worker failed: SIGKILL[^b]*reason=signal")
    finally:
        service.destroy()
