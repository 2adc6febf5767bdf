"""The log against real pipes, sockets, files, forks and a stand-in for journald."""

import array
import fcntl
import os
import pty
import socket
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.log import Level, Logger, Record, Sink, journal, open_sink
from clusterd.log.destination import is_journal_stream
from clusterd.log.journal import JournalWriter
from clusterd.log.stderr import DescriptorWriter, LineEncoder

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def read_available(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    data = b""
    try:
        while chunk := os.read(descriptor, 65536):
            data += chunk
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(descriptor, True)
    return data


def test_a_full_pipe_never_blocks_and_losses_are_reported(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    destination = DescriptorWriter(writer)
    logger = Logger(Sink(LineEncoder(), destination.send, capacity=10_000))
    for number in range(2000):
        logger.info(f"message number {number}", padding="x" * 100)
    read_available(reader)
    logger.flush()
    logger.flush()
    logger.info("works again")
    tail = read_available(reader).decode()
    assert "log records lost count=" in tail
    assert tail.endswith("works again\n")
    assert f"count={logger.lost}\n" in tail, "the counter goes on, after the loss was reported too"
    assert os.get_blocking(writer), "the flag belongs to everyone who has the pipe"
    destination.close()


def test_a_reader_that_is_gone_costs_records_and_nothing_else() -> None:
    reader, writer = os.pipe()
    destination = DescriptorWriter(writer)
    os.close(reader)
    sink = Sink(LineEncoder(), destination.send, capacity=200)
    for _ in range(5):
        sink.write(Record(Level.INFO, "nobody reads this", {}))
    assert sink.lost > 0
    destination.close()
    os.close(writer)


def test_a_stream_socket_takes_part_of_a_payload_and_the_rest_later() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        destination = DescriptorWriter(ours.fileno())
        sink = Sink(LineEncoder(), destination.send)
        for number in range(200):
            sink.write(Record(Level.INFO, f"message {number} " + "x" * 500, {}))
        received = b""
        while b"message 199" not in received:
            received += theirs.recv(65536)
            sink.flush()
        lines = received.splitlines()
        assert [line.split()[4] for line in lines] == [b"%d" % number for number in range(200)]
        destination.close()


def test_a_file_is_shared_with_print(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb", buffering=0) as file:
        destination = DescriptorWriter(file.fileno())
        sink = Sink(LineEncoder(), destination.send)
        sink.write(Record(Level.INFO, "first", {}))
        file.write(b"printed\n")
        sink.write(Record(Level.INFO, "second", {}))
        destination.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[-1] for line in lines] == ["first", "printed", "second"]


def test_a_terminal_stays_blocking_for_print() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    destination = DescriptorWriter(slave)
    Sink(LineEncoder(), destination.send).write(Record(Level.INFO, "hello", {}))
    assert os.read(master, 1000).endswith(b"hello\n")
    assert os.get_blocking(slave)
    destination.close()
    os.close(master)
    os.close(slave)


def test_a_pipe_that_may_not_be_opened_again_is_polled(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise PermissionError

    reader, writer = pipe
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        destination = DescriptorWriter(writer)
    sink = Sink(LineEncoder(), destination.send, capacity=5000)
    for _ in range(2000):
        sink.write(Record(Level.INFO, "x" * 100, {}))
    assert sink.lost > 0
    assert len(read_available(reader)) > 0
    destination.close()


def test_a_fork_does_not_write_what_its_parent_could_not(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    destination = DescriptorWriter(writer)
    logger = Logger(Sink(LineEncoder(), destination.send))
    logger.info("x" * 4000)
    logger.info("waits in the parent")
    read_available(reader)
    child = os.fork()
    if child == 0:
        logger.info("from the child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert b"waits" not in (from_child := read_available(reader))
    assert from_child.endswith(b"from the child\n")
    logger.flush()
    assert read_available(reader).endswith(b"waits in the parent\n")
    destination.close()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        yield server


def test_an_entry_reaches_the_journal_in_one_datagram(journald: socket.socket) -> None:
    writer = JournalWriter(journald.getsockname())
    Logger(Sink(journal.encode, writer.send)).error("failed", slot=3)
    assert journald.recv(4096) == (b"MESSAGE=failed slot=3\nPRIORITY=3\nSYSLOG_IDENTIFIER=clusterd\nCLUSTERD_SLOT=3\n")
    writer.close()


def test_an_entry_larger_than_a_datagram_goes_as_a_sealed_memfd(journald: socket.socket) -> None:
    writer = JournalWriter(journald.getsockname())
    payload = b"MESSAGE=" + b"x" * 2_000_000 + b"\n"
    assert writer.send(payload)
    data, ancillary, _, _ = journald.recvmsg(4096, socket.CMSG_LEN(4))
    ((_, _, rights),) = ancillary
    (descriptor,) = array.array("i", rights)
    assert data == b""
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == (
        fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    )
    with open(descriptor, "rb") as file:
        file.seek(0)
        assert file.read() == payload
    writer.close()


def test_a_busy_or_restarting_journald_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    writer = JournalWriter(path)
    sink = Sink(journal.encode, writer.send, capacity=1000)
    sink.write(Record(Level.INFO, "before it starts", {}))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        for number in range(1000):
            sink.write(Record(Level.INFO, f"message {number}", {}))
        assert sink.lost > 0
        assert server.recv(4096).startswith(b"MESSAGE=before it starts\n")
    writer.close()


def test_the_journal_is_used_only_when_stderr_is_its_stream(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    status = os.fstat(writer)
    assert is_journal_stream(f"{status.st_dev}:{status.st_ino}", writer)
    assert not is_journal_stream(f"{status.st_dev}:{status.st_ino + 1}", writer)
    assert not is_journal_stream("", writer)
    open_sink({"JOURNAL_STREAM": "1:1"}, writer).write(Record(Level.INFO, "on stderr", {}))
    assert read_available(reader).endswith(b"on stderr\n")
