"""What an application prints, into a journald that goes and comes, closed pipes and full disks: nothing fails of it."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import pytest

from tests.support.clients import connect
from tests.support.service import HELLO, PATIENCE_SECONDS, Service

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

OBEYS = """
import os, subprocess, sys
from clusterd.log import output
output.JOURNAL_STREAM_SOCKET = sys.argv[1]
output.PATIENCE_SECONDS = 0.2
output.protect_output(os.environ)
answers = os.fdopen(int(sys.argv[2]), "w")
for line in sys.stdin:
    try:
        result = eval(line)
    except BaseException as error:
        result = error
    answers.write(f"{result!r}\\n")
    answers.flush()
"""
HEADER = b"clusterd\n\n6\n1\n0\n0\n0\n"


class Program:
    """A process with such output, which evaluates what it is told."""

    def __init__(self, directory: Path, stdout: int, stderr: int, environment: dict[str, str]) -> None:
        ours, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", OBEYS, str(directory / "stdout.sock"), str(theirs)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[theirs],
            env={**os.environ, **environment},
            text=True,
        )
        os.close(theirs)
        self._answers: IO[str] = os.fdopen(ours)

    def do(self, expression: str) -> str:
        """What it comes to."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        return self._answers.readline().rstrip("\n")

    def end(self) -> int:
        """Its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._answers.close()
        return self._process.wait(PATIENCE_SECONDS)


class Journald:
    """Accepts streams, as the real one does."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "stdout.sock"
        self._listener: socket.socket | None = None
        self.stream: socket.socket | None = None

    def start(self) -> None:
        """Accept streams, from now on."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._listener.settimeout(PATIENCE_SECONDS)

    def connect(self) -> socket.socket:
        """What systemd does for a service: the service's end."""
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(str(self._path))
        self.accept()
        return theirs

    def accept(self) -> None:
        """Take the next stream for the current one."""
        assert self._listener is not None
        self.stream = self._listener.accept()[0]
        self.stream.settimeout(PATIENCE_SECONDS)

    def stop(self) -> None:
        """Close everything."""
        if self._listener is not None:
            self._listener.close()
            self._path.unlink()
            self._listener = None
        if self.stream is not None:
            self.stream.close()
            self.stream = None

    def hear(self, until: bytes) -> bytes:
        """What comes, until that has come."""
        assert self.stream is not None
        heard = b""
        while until not in heard:
            data = self.stream.recv(65536)
            assert data, heard
            heard += data
        return heard


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    made = Journald(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def program(tmp_path: Path, journald: Journald) -> Iterator[Program]:
    with journald.connect() as stream:
        status = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        started = Program(tmp_path, stream.fileno(), stream.fileno(), environment)
    yield started
    assert started.end() == 0


def test_a_stream_that_journald_has_closed_is_opened_again(program: Program, journald: Journald) -> None:
    assert program.do("print('one')") == "None"
    assert journald.hear(b"one\n") == b"one\n"
    journald.stop()
    journald.start()
    assert program.do("print('two')") == "None"
    journald.accept()
    assert journald.hear(b"two\n") == HEADER + b"two\n"
    assert program.do("print('three', file=sys.stderr)") == "None"
    assert journald.hear(b"three\n") == b"three\n"
    assert program.do("subprocess.run('echo four; echo five >&2', shell=True).returncode") == "0"
    assert journald.hear(b"five\n") == b"four\nfive\n"
    name = "(lambda status: f'{status.st_dev}:{status.st_ino}')(os.fstat(1)) == os.environ['JOURNAL_STREAM']"
    assert program.do(name) == "True"


def test_what_no_journald_takes_is_kept_as_far_as_there_is_room_and_then_counted(
    program: Program, journald: Journald
) -> None:
    journald.stop()
    assert program.do("print('kept')") == "None"
    assert program.do("print('x' * 9999)") == "None"
    assert program.do("print('lost', flush=True)") == "None"
    journald.start()
    assert program.do("print('heard')") == "None"
    journald.accept()
    assert journald.hear(b"heard\n") == HEADER + b"kept\nclusterd: 10005 bytes of output were lost\nheard\n"


def test_it_is_opened_again_for_children_before_anything_is_printed(program: Program, journald: Journald) -> None:
    journald.stop()
    journald.start()
    assert program.do("output.mend_output()") == "None"
    journald.accept()
    assert program.do("subprocess.run('echo heard', shell=True).returncode") == "0"
    assert journald.hear(b"heard\n") == HEADER + b"heard\n"


def test_a_journald_that_does_not_read_holds_nothing_up_for_long(program: Program, journald: Journald) -> None:
    # Many times what the socket takes, and each piece waited for would take minutes.
    assert program.do("[print('x' * 10_000) for _ in range(1000)] and None") == "None"
    assert journald.stream is not None
    journald.stream.setblocking(False)
    with suppress(BlockingIOError):
        while journald.stream.recv(65536):
            pass
    journald.stream.settimeout(PATIENCE_SECONDS)
    assert program.do("print('heard')") == "None"
    assert journald.hear(b"heard\n").endswith(b" bytes of output were lost\nheard\n")


def test_what_the_application_has_redirected_stays_so(program: Program, journald: Journald, tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert program.do(f"os.dup2(os.open({str(file)!r}, os.O_WRONLY | os.O_CREAT), 1)") == "1"
    journald.stop()
    journald.start()
    assert program.do("print('to the journal', file=sys.stderr)") == "None"
    journald.accept()
    assert program.do("print('to the file')") == "None"
    assert file.read_text() == "to the file\n"
    assert journald.hear(b"journal\n") == HEADER + b"to the journal\n"


def test_a_pipe_that_nobody_reads_any_more_and_a_full_disk_fail_no_print(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    program = Program(tmp_path, writer, full, {})
    os.close(reader)
    os.close(writer)
    os.close(full)
    assert program.do("print('lost', flush=True)") == "None"
    assert program.do("print('lost', file=sys.stderr, flush=True)") == "None"
    assert program.do("sys.stdout.buffer.write(b'x' * 100_000)") == "100000"
    assert program.end() == 0


def test_a_full_pipe_that_somebody_has_made_a_non_blocking_one_fails_no_print(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = Program(tmp_path, writer, writer, {})
    assert program.do("[print('x' * 10_000) for _ in range(100)] and None") == "None"
    os.set_blocking(reader, False)
    while len(os.read(reader, 1 << 20)) == 1 << 20:
        pass
    assert program.do("print('heard')") == "None"
    assert os.read(reader, 1 << 20).endswith(b" bytes of output were lost\nheard\n")
    os.close(reader)
    os.close(writer)
    assert program.end() == 0


def test_a_handler_of_a_signal_may_print_in_the_middle_of_a_print(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as output:
        program = Program(tmp_path, output.fileno(), output.fileno(), {})
    # Both on the main thread, which is in the middle of a print as good as always.
    assert program.do("setattr(sys, 's', __import__('signal')) or sys.s.signal(sys.s.SIGALRM, lambda *_: print('in'))")
    assert program.do("sys.s.setitimer(sys.s.ITIMER_REAL, 0.001, 0.0002)") == "(0.0, 0.0)"
    assert program.do("[print('out') for _ in range(50_000)] and None") == "None"
    assert program.do("sys.s.setitimer(sys.s.ITIMER_REAL, 0) and None") == "None"
    assert program.end() == 0
    # A handler's line may come between a line and its end; none is lost.
    assert file.read_text().count("out") == 50_000
    assert "in" in file.read_text()


def test_they_are_files_like_pythons_own(program: Program) -> None:
    assert program.do("sys.stdout.fileno(), sys.stderr.fileno()") == "(1, 2)"
    assert program.do("sys.stdout.isatty(), sys.stdout.name, sys.stdout.mode") == "(False, '<stdout>', 'w')"
    assert program.do("sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__") == "(True, True)"
    assert program.do("sys.stdout.line_buffering, sys.stdout.encoding.lower()") == "(True, 'utf-8')"
    assert program.do("__import__('faulthandler').enable()") == "None"
    assert program.do("print('\\ud800 cannot be encoded')") == "None"
    assert program.do("sys.stderr.reconfigure(line_buffering=False)") == "None"
    assert program.do("sys.stdout.close()") == "None"
    assert program.do("print('closed by the application')").startswith("ValueError")
    assert program.do("os.write(1, b'still open')") == "10"


def test_a_service_whose_output_is_on_a_full_disk_answers(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.inside = ("sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh")
    service.deploy("1", HELLO.replace("    body", "    print('a line', flush=True)\n    body"))
    service.start()
    assert [service.get().status_code for _ in range(5)] == [200] * 5
    assert service.reload().returncode == 0
    assert service.get().status_code == 200


PRINTS = """
import os
def app(environ, start_response):
    for number in range(100):
        print("printed", os.getpid(), number, "x" * 40, "over")
    print("and", "begun", end="")
    print()
    start_response("200 OK", [])
    return [b""]
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_of_many_threads_and_workers_are_whole(make_service: MakeService, unbuffered: str) -> None:
    """A print of several arguments is several writes, and with PYTHONUNBUFFERED each of them was on its own."""
    service = make_service(workers=2, threads=4, environment={"PYTHONUNBUFFERED": unbuffered})
    service.deploy("1", PRINTS)
    service.start()

    def ask() -> None:
        for _ in range(5):
            with closing(connect(service)) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while client.recv(1000):
                    pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.stop() == 0
    lines = [line for line in service.log().splitlines() if "clusterd[" not in line]
    whole = re.compile(r"printed \d+ \d+ x{40} over|and begun")
    assert [line for line in lines if not whole.fullmatch(line)] == []
    assert len(lines) == 8 * 5 * 101
