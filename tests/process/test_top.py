"""`clusterctl top` on a terminal: one that the test plays."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from clusterd.dashboard.model import Dashboard, parse
from tests.support.service import PATIENCE_SECONDS, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


class Screen:
    """A terminal with `top` on it; `text` is everything that was ever written there."""

    def __init__(self, process: "subprocess.Popen[bytes]", terminal: int) -> None:
        self.process = process
        self.text = ""
        self._terminal = terminal

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, pattern: str) -> None:
        wait_until(lambda: self._read() and re.search(pattern, self.text), pattern)

    def _read(self) -> bool:
        try:
            self.text += os.read(self._terminal, 65536).decode(errors="replace")
        except BlockingIOError:
            pass
        except OSError:  # nobody has it open any more
            return bool(self.text)
        return True


@contextmanager
def top(service: Service, rows: int = 24, columns: int = 80, term: str = "xterm") -> Iterator[Screen]:
    terminal, theirs = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    os.set_blocking(terminal, False)
    command = [sys.executable, "-m", "clusterd.cli.clusterctl", "--socket", str(service.control), "top"]
    environment = {**os.environ, "TERM": term}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield Screen(process, terminal)
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)
        os.close(terminal)


def test_it_shows_the_workers_sorts_and_quits(make_service: MakeService) -> None:
    service = make_service(workers=2).start()
    with top(service) as screen:
        for worker in service.workers():
            screen.wait_for(str(worker["pid"]))
        screen.wait_for("SLOT.*state")
        screen.type("m")
        screen.wait_for("MEMORY")
        screen.resize(8, 40)
        screen.type("a")
        screen.resize(1, 1)
        screen.type("q")
        assert screen.process.wait(PATIENCE_SECONDS) == 0


def test_its_numbers_are_there_for_programs_too(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    shown = service.clusterctl("top")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "clusterctl: top needs a terminal; clusterctl top --json prints its numbers once\n"
    document = json.loads(service.clusterctl("top", "--json").stdout)
    assert document["succeeded"] and document["about"]["status"] == "Serving: 1 worker, generation 1"
    assert parse({key: document[key] for key in Dashboard.__annotations__}).totals.ready == 1


def test_it_outlives_the_service(make_service: MakeService) -> None:
    service = make_service(workers=1).start()
    with top(service) as screen:
        screen.wait_for(str(service.workers()[0]["pid"]))
        assert service.stop() == 0
        screen.wait_for("clusterd is not running")
        screen.type("q")
        assert screen.process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_can_not_show_it_is_named(make_service: MakeService, term: str) -> None:
    service = make_service(workers=1).start()
    with top(service, term=term) as screen:
        screen.wait_for(rf"top cannot use this terminal \(TERM={term}\)")
        assert screen.process.wait(PATIENCE_SECONDS) == 2
