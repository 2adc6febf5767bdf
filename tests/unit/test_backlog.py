"""How many connections wait in the queue of a listening socket, from real sockets and from bytes like the kernel's."""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clusterd.metrics.kernel.backlog import Backlog, backlog, backlogs, unix_answer

pytestmark = pytest.mark.engine_independent

INTERNET = socket.AF_INET
LISTENING, ESTABLISHED = 10, 1


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listener(opened: ExitStack, address: object, limit: int, family: int = INTERNET) -> socket.socket:
    sock = opened.enter_context(socket.socket(family))
    if family == INTERNET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)  # type: ignore[arg-type]
    sock.listen(limit)
    return sock


def connect(opened: ExitStack, to: socket.socket, times: int) -> None:
    for _ in range(times):
        opened.enter_context(socket.socket(to.family)).connect(to.getsockname())


@pytest.mark.parametrize(
    ("family", "address"), [(INTERNET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, "file")]
)
def test_connections_wait_until_they_are_accepted(
    opened: ExitStack, tmp_path: Path, family: int, address: object
) -> None:
    sock = listener(opened, str(tmp_path / "socket") if address == "file" else address, 5, family)
    assert backlog(sock) == Backlog(0, 5)
    connect(opened, sock, 3)
    assert backlog(sock) == Backlog(3, 5)
    opened.enter_context(sock.accept()[0])
    assert backlog(sock) == Backlog(2, 5)


def test_an_abstract_name_is_found_by_its_inode_like_any_other(opened: ExitStack, tmp_path: Path) -> None:
    sock = listener(opened, f"\0{tmp_path}", 7, socket.AF_UNIX)
    connect(opened, sock, 1)
    assert backlog(sock) == Backlog(1, 7)


def test_a_socket_that_does_not_listen_has_none(opened: ExitStack, tmp_path: Path) -> None:
    for sock in (socket.socket(), socket.socket(socket.AF_UNIX), *socket.socketpair()):
        assert backlog(opened.enter_context(sock)) is None
    closed = listener(opened, str(tmp_path / "socket"), 5, socket.AF_UNIX)
    closed.close()
    assert backlog(closed) is None


def test_sockets_with_one_address_are_one_queue(opened: ExitStack, tmp_path: Path) -> None:
    first = listener(opened, ("127.0.0.1", 0), 50)
    second = listener(opened, first.getsockname(), 60)
    other = listener(opened, str(tmp_path / "socket"), 9, socket.AF_UNIX)
    connect(opened, first, 8)  # The kernel gives each to one of the two.
    found = backlogs([("a", first), ("a", second), ("b", other), ("c", opened.enter_context(socket.socket()))])
    assert found == {"a": Backlog(8, 110), "b": Backlog(0, 9)}


def answered(kind: int, state: int, *attributes: tuple[int, bytes]) -> bytes:
    body = struct.pack("=BBBBIII", socket.AF_UNIX, socket.SOCK_STREAM, state, 0, 4711, 1, 0)
    for name, data in attributes:
        body += struct.pack("=HH", 4 + len(data), name) + data + bytes(-len(data) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_the_queue_is_found_among_other_attributes_whatever_their_length() -> None:
    queue = struct.pack("=II", 3, 128)
    assert unix_answer(answered(20, LISTENING, (0, b"/run/x"), (7, b"\x01"), (4, queue))) == Backlog(3, 128)
    assert unix_answer(answered(20, ESTABLISHED, (4, queue))) is None
    assert unix_answer(answered(20, LISTENING, (0, b"/run/x"))) is None
    assert unix_answer(answered(20, LISTENING, (0, b""), (9, b""))) is None


def test_an_error_of_the_kernel_is_no_queue() -> None:
    assert unix_answer(struct.pack("=IHHIIi", 36, 2, 0, 0, 0, -2) + bytes(16)) is None
