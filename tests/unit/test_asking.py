"""clusterctl's side of the control socket, where nobody answers as they should."""

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusterd.cli import upgrading
from clusterd.cli.asking import Unreachable, ask, result_of
from clusterd.wire.control import Command


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A control socket whose master stands still: the kernel takes connections, and nobody answers them."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        yield path


def test_a_master_that_does_not_answer_is_not_waited_for_for_ever(silent: Path) -> None:
    for command in (Command.STATUS, Command.RELOAD):
        with pytest.raises(Unreachable, match="clusterd does not answer: it is stopped, or busy"):
            list(ask(silent, command, seconds=0.01))


def test_a_full_queue_is_no_other_matter(silent: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as another:
        one.connect(str(silent))
        another.connect(str(silent))
        with pytest.raises(Unreachable, match="clusterd does not answer: it is stopped, or busy"):
            result_of(silent, Command.STATUS, 0.01)


Answer = Callable[[socket.socket], None]
RESULT = {"version": 1, "type": "result", "succeeded": True, "text": "", "data": {}}


def says(*documents: dict[str, Any]) -> Answer:
    """Answer a request with these, and close the connection."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        for document in documents:
            connection.sendall(json.dumps({"version": 1, **document}).encode() + b"\n")

    return answer


@contextmanager
def master(path: Path, answers: Sequence[Answer]) -> Iterator[None]:
    """One that answers so many connections, and accepts no others."""

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(5)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join()


def test_a_command_that_no_master_has_read_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """The master dies after it has said that it is there, and systemd holds the socket."""
    path = tmp_path / "control.sock"
    with master(path, [says(RESULT)]), pytest.raises(Unreachable, match="clusterd does not answer"):
        list(ask(path, Command.RELOAD, seconds=0.3))


def test_a_command_that_is_read_may_take_long(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    def slow(connection: socket.socket) -> None:
        request = connection.recv(4096)
        assert request
        gave_up, _, _ = select.select([connection], [], [], 1.0)
        if not gave_up:
            connection.sendall(json.dumps({**RESULT, "text": "done"}).encode() + b"\n")

    with master(path, [says(RESULT), slow]):
        assert [each["text"] for each in ask(path, Command.RELOAD, seconds=0.3)] == ["done"]


def test_an_upgrade_is_followed_to_its_end_by_the_next_master(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    begun = {**RESULT, "data": {"rollout": 2, "version": "9"}}
    started = {"type": "event", "event": {"event": "rollout_start", "rollout": 2, "time": 0.0}}
    ended = {"type": "event", "event": {"event": "rollout_end", "rollout": 2, "generation": 2, "failure": None}}
    there = says(RESULT)
    told: list[str] = []
    # The first master dies before it answers, the second one in the rollout.
    answers = [there, says(), there, says(begun), there, says(started), there, says(started, ended)]
    with master(path, answers):
        done = upgrading.upgrade(path, lambda _: None, told.append)
    assert done["text"] == "clusterd 9 runs, and generation 2 serves"
    assert done["succeeded"]
    assert len(told) == 1


def test_an_upgrade_fails_at_once_where_there_is_no_clusterd(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no such socket"):
        upgrading.upgrade(tmp_path / "control.sock", lambda _: None, lambda _: None)


def test_a_next_master_is_waited_for_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrading, "NEXT_MASTER_SECONDS", 0.0)
    path = tmp_path / "control.sock"
    with master(path, [says(RESULT), says()]), pytest.raises(Unreachable, match="has died"):
        upgrading.upgrade(path, lambda _: None, lambda _: None)
