"""Which changes of files lead to a reload, and when."""

import struct

import pytest

from clusterd.linux.inotify import Notice, What, parse
from clusterd.master.watching.file_changes import (
    MOST_SECONDS,
    PAUSE_SECONDS,
    SEVERAL,
    FileChanges,
    Repetition,
    is_ignored,
    sentence,
)

pytestmark = pytest.mark.engine_independent


@pytest.mark.parametrize(
    "name",
    [
        *("app.pyc", "app.pyo", "app.pyd"),
        *("app.py~", ".app.py.swp", ".app.py.swo", ".app.py.swx", "4913"),
        *("#app.py#", ".#app.py"),
        *(".app.py.kate-swp", ".goutputstream-AB12CD", "app.py___jb_tmp___", "app.py___jb_old___", ".nfs00000000012ab"),
    ],
)
def test_what_editors_and_python_leave_is_ignored(name: str) -> None:
    assert is_ignored(name, is_directory=False)


@pytest.mark.parametrize(
    "name", ["app.py", "page.html", ".env", "49131", "4913.py", "a~b", "app.swp", "requirements.txt", "a#b", "pyc"]
)
def test_whatever_else_there_is_matters(name: str) -> None:
    assert not is_ignored(name, is_directory=False)


def test_directories_have_names_of_their_own() -> None:
    for name in ("__pycache__", ".git", ".venv", "node_modules", ".mypy_cache"):
        assert is_ignored(name, is_directory=True)
        assert not is_ignored(name, is_directory=False)
    assert not is_ignored("4913", is_directory=True)
    assert not is_ignored("shop", is_directory=True)


def test_it_is_time_when_nothing_has_changed_for_a_while() -> None:
    changes = FileChanges()
    changes.written("/a", 10.0)
    assert changes.due_at == 10.0 + PAUSE_SECONDS
    changes.written("/b", 10.1)
    changes.written("/a", 10.15)
    assert changes.due_at == 10.15 + PAUSE_SECONDS
    assert changes.take() == ["/a", "/b"]
    assert changes.due_at is None


def test_what_changes_all_the_time_is_not_waited_for() -> None:
    changes = FileChanges()
    for tenth in range(100):
        changes.written("/log", 10 + tenth / 10)
    assert changes.due_at == 10 + MOST_SECONDS
    changes.take()
    changes.written("/log", 30.0)
    assert changes.due_at == 30.0 + PAUSE_SECONDS


@pytest.mark.parametrize("is_written", [True, False])
def test_what_vanishes_at_once_was_not_there(is_written: bool) -> None:
    changes = FileChanges()
    changes.begun("/4913")
    if is_written:
        changes.written("/4913", 10.0)
    changes.vanished("/4913", 10.1)
    assert changes.due_at is None


def test_a_new_file_counts_when_it_is_written() -> None:
    changes = FileChanges()
    changes.begun("/app.py")
    assert changes.due_at is None
    changes.written("/app.py", 12.0)
    assert changes.take() == ["/app.py"]
    changes.vanished("/app.py", 14.0)  # it is no longer new
    assert changes.take() == ["/app.py"]


def test_a_file_put_in_the_place_of_another_is_told_by_its_own_name() -> None:
    changes = FileChanges()
    changes.begun("/app.py.tmp")
    changes.written("/app.py.tmp", 10.0)
    changes.vanished("/app.py.tmp", 10.0)
    changes.appeared("/app.py", 10.0)
    assert changes.take() == ["/app.py"]


def test_a_file_that_was_there_before_can_vanish() -> None:
    changes = FileChanges()
    changes.vanished("/app.py", 10.0)
    changes.appeared("/app.py", 10.1)
    changes.vanished("/app.py", 10.2)
    assert changes.take() == ["/app.py"]


def test_what_was_unpacked_elsewhere_is_told_where_it_is() -> None:
    changes = FileChanges()
    changes.appeared("/new.tmp/app.py", 10.0)
    changes.appeared("/new.tmp/sub/app.py", 10.0)
    changes.vanished("/new.tmp", 10.0)
    changes.appeared("/new/app.py", 10.0)
    assert changes.take() == ["/new/app.py"]


def test_the_same_file_again_and_again_is_told_once() -> None:
    repetition = Repetition()
    told = [repetition.is_striking("/made", 10.0 + second) for second in range(2 * SEVERAL)]
    assert told == [number == SEVERAL for number in range(1, 2 * SEVERAL + 1)]


@pytest.mark.parametrize("step", [60.0, 0.5])
def test_somebody_who_saves_is_no_repetition(step: float) -> None:
    """Neither now and then, nor one file after the other."""
    repetition = Repetition()
    for number in range(4 * SEVERAL):
        path = "/app.py" if step > 1 else f"/{number // 2}.py"
        assert not repetition.is_striking(path, 10 + number * step)


def test_it_is_said_which_file_has_changed() -> None:
    assert sentence(["/srv/a.py"], "/srv") == "a.py has changed"
    assert sentence(["/srv/a.py", "/b"], "/") == "srv/a.py and 1 other have changed"
    assert sentence(["/srv/a.py", "/b", "/c"], "/home") == "/srv/a.py and 2 others have changed"


def test_the_kernels_notices_are_read_one_by_one() -> None:
    data = struct.pack("iIII16s", 1, 0x100, 0, 16, b"app.py")
    data += struct.pack("iIII", 2, 0x8000, 0, 0)
    data += struct.pack("iIII16s", 1, 0x40000040, 7, 16, b"sub")
    data += struct.pack("iIII", -1, 0x4000, 0, 0)
    assert parse(data) == [
        Notice(1, What.CREATED, "app.py"),
        Notice(2, What.UNWATCHED, ""),
        Notice(1, What.LEFT | What.DIRECTORY, "sub"),
        Notice(-1, What.OVERFLOWED, ""),
    ]
