"""Notifications, received as systemd would."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.systemd.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        yield server


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    made = Notifier(manager.getsockname())
    yield made
    made.close()


def received(manager: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_each_message_is_one_datagram(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("4 workers")
    notifier.stopping("draining")
    notifier.status("2 of 4 workers")
    notifier.watchdog()
    notifier.extend_timeout(1.5)
    assert received(manager) == [
        "READY=1\nSTATUS=4 workers",
        "STOPPING=1\nSTATUS=draining",
        "STATUS=2 of 4 workers",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]


def test_a_status_is_one_short_line(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("reload failed:\n  READY=1\r\n" + "x" * 1000)
    (message,) = received(manager)
    assert message.startswith("STATUS=reload failed: READY=1 xxx")
    assert "\n" not in message
    assert len(message) < 350


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket, notifier: Notifier) -> None:
    for number in range(2000):
        notifier.status(f"number {number}")
    notifier.watchdog()
    notifier.ready("at last")
    messages = received(manager)
    while not notifier.flush():
        messages += received(manager)
    messages += received(manager)
    assert messages[-1] == "READY=1\nSTATUS=at last"
    assert "WATCHDOG=1" not in messages
    numbers = [int(message.split()[1]) for message in messages if "number" in message]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 1999


def test_nothing_is_sent_without_a_manager() -> None:
    notifier = Notifier(None)
    notifier.ready("ready")
    notifier.watchdog()
    assert notifier.flush()
    notifier.close()


def test_a_manager_that_is_gone_costs_nothing(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ready("ready")
    assert notifier.flush()
    notifier.close()


def test_an_abstract_address(tmp_path: Path) -> None:
    name = f"clusterd-test-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name)
        notifier = Notifier("@" + name)
        notifier.ready("ready")
        assert server.recv(100) == b"READY=1\nSTATUS=ready"
        notifier.close()
