"""Programs of Debian that stand beside clusterd in a test."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.service import Never, wait_until

# /usr/sbin is not on every user's path.
_SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"
ENVIRONMENT = {**os.environ, "PATH": _SEARCH_PATH}
"""In which such programs are found."""


def needs(program: str, package: str) -> None:
    """Skip the test where a program is missing; where tests gate a change, fail it."""
    if shutil.which(program, path=_SEARCH_PATH) is None:
        message = f"the program {program} is missing (Debian package {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


@contextmanager
def neighbour(command: Sequence[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    """Run a program in a directory of its own; the block begins when it is ready, and nothing is left afterwards."""
    with tempfile.TemporaryDirectory() as directory, Path(directory, "log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            # What it forks is ended with it.
            start_new_session=True,
        )
        try:

            def ready() -> bool:
                if process.poll() is not None:
                    raise Never(f"{command} has ended with {process.returncode}:\n{Path(log.name).read_text()}")
                return is_ready()

            wait_until(ready, f"{command} is ready")
            yield
        finally:
            with suppress(ProcessLookupError):  # it has ended, and everything with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print(f"--- log of {command[0]}\n{Path(log.name).read_text()}")


def with_ports(path: Path, directory: Path, ports: dict[int, int]) -> Path:
    """A copy of a configuration that listens, and asks, elsewhere."""
    text = path.read_text()
    for written, port in ports.items():
        # Marked, or a port of the test's could be taken for one that is written there.
        text, count = re.subn(rf"(127\.0\.0\.1:|\bport ){written}\b", rf"\g<1>@{port}", text)
        assert count, f"{path} does not have {written}"
    copy = directory / path.name
    copy.write_text(re.sub(r"(?<=[: ])@(?=\d)", "", text))
    return copy
