"""Sockets passed as systemd passes them: by descriptor, from 3, with names in the environment."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import clusterd.systemd
from clusterd.systemd.sockets import Role, SocketError, address_text, passed_sockets, take_sockets

SERVICE = str(Path(clusterd.systemd.__file__).parents[2])

# Puts the descriptors of argv[1] at 3 and up, as the manager does before the exec, and says what arrived.
CHILD = """
import json, os, sys
descriptors = json.loads(sys.argv[1])
moved = [os.dup(descriptor) for descriptor in descriptors]
import fcntl
high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in moved]
for number, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + number, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
from clusterd.systemd.sockets import passed_sockets
passed = passed_sockets()
print(json.dumps({
    "sockets": [
        [p.role, p.socket.fileno(), p.address, p.socket.get_inheritable(), os.get_blocking(p.socket.fileno())]
        for p in passed
    ],
    "environment": [name for name in os.environ if name.startswith("LISTEN_")],
    "again": len(passed_sockets()),
}))
"""


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, address: tuple[str, int] | str) -> socket.socket:
    family = socket.AF_UNIX
    if not isinstance(address, str):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = stack.enter_context(socket.socket(family))
    sock.bind(address)
    sock.listen()
    return sock


def run_child(passed: list[socket.socket], variables: dict[str, str]) -> dict[str, object]:
    descriptors = [sock.fileno() for sock in passed]
    environ = {**os.environ, "PYTHONPATH": SERVICE, **variables}
    output = subprocess.check_output(
        [sys.executable, "-c", CHILD, json.dumps(descriptors)], env=environ, pass_fds=descriptors, timeout=60
    )
    answer: dict[str, object] = json.loads(output)
    return answer


def test_sockets_of_all_families_arrive_by_name(sockets: ExitStack, tmp_path: Path) -> None:
    made = [
        listening(sockets, ("127.0.0.1", 0)),
        listening(sockets, ("::1", 0)),
        listening(sockets, str(tmp_path / "http.sock")),
        listening(sockets, ("127.0.0.1", 0)),
        listening(sockets, str(tmp_path / "control.sock")),
    ]
    roles = ["http", "http", "http", "metrics", "control"]
    answer = run_child(made, {"LISTEN_FDS": "5", "LISTEN_FDNAMES": ":".join(roles)})
    assert answer["sockets"] == [
        [role, 3 + number, address_text(sock), False, False]
        for number, (role, sock) in enumerate(zip(roles, made, strict=True))
    ]
    assert answer["environment"] == []
    assert answer["again"] == 0


def test_no_sockets_outside_of_a_socket_unit() -> None:
    assert run_child([], {})["sockets"] == []


def test_variables_that_contradict_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    with pytest.raises(SocketError, match="LISTEN_FDS=many"):
        passed_sockets()


def test_passed_sockets_need_a_package_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(SocketError, match=r"apt install python3-systemd or, .* pip install systemd-python"):
        passed_sockets()


def test_addresses_are_written_as_in_the_configuration(sockets: ExitStack, tmp_path: Path) -> None:
    ipv6 = listening(sockets, ("::1", 0))
    assert address_text(ipv6) == f"[::1]:{ipv6.getsockname()[1]}"
    assert address_text(listening(sockets, str(tmp_path / "a"))) == f"unix:{tmp_path / 'a'}"
    assert address_text(listening(sockets, f"\0clusterd{tmp_path}")) == f"unix:@clusterd{tmp_path}"


def test_a_taken_socket_is_non_blocking_and_has_its_role(sockets: ExitStack) -> None:
    sock = listening(sockets, ("127.0.0.1", 0))
    (taken,) = take_sockets([(os.dup(sock.fileno()), "metrics")])
    with taken.socket:
        assert taken.role is Role.METRICS
        assert taken.socket.family == socket.AF_INET
        assert not os.get_blocking(sock.fileno())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("clusterd.socket", "FileDescriptorName= in the socket unit to one of http, https, metrics, control"),
        ("unknown", "FileDescriptorName="),
    ],
)
def test_an_unknown_name_says_how_to_name_it(sockets: ExitStack, name: str, says: str) -> None:
    with pytest.raises(SocketError, match=says):
        take_sockets([(listening(sockets, ("127.0.0.1", 0)).fileno(), name)])


def test_every_descriptor_of_the_wrong_kind_is_named(sockets: ExitStack, tmp_path: Path) -> None:
    datagram = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent = sockets.enter_context(socket.socket())
    connected, _ = (sockets.enter_context(end) for end in socket.socketpair())
    reader, writer = os.pipe()
    sockets.callback(os.close, reader)
    sockets.callback(os.close, writer)
    descriptors = [datagram.fileno(), silent.fileno(), connected.fileno(), reader]
    with pytest.raises(SocketError) as caught:
        take_sockets([(descriptor, "http") for descriptor in descriptors])
    problems = caught.value.problems
    assert [f"descriptor {number})" in text for number, text in zip(descriptors, problems, strict=True)]
    assert "ListenStream=" in problems[0]
    assert "Accept=no" in problems[1]
    assert "Accept=no" in problems[2]
    assert "not a socket" in problems[3]
