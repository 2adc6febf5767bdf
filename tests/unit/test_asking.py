"""clusterctl's side of the control socket, where nobody answers as they should."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

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
