"""`clusterd --watch`: real files, changed as editors, checkouts and deploys change them."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterd.linux.inotify import Inotify, Notice, What
from clusterd.log import Logger
from clusterd.log.sink import Sink
from clusterd.master.watching.watcher import Watcher, WatchError
from tests.support.service import PATIENCE_SECONDS


def logger(told: list[str]) -> Logger:
    def keep(message: bytes) -> bool:
        told.append(message.decode())
        return True

    return Logger(Sink(lambda record: [record.message.encode()], keep))


class Watched:
    """A watcher on a loop of its own, and what it has told."""

    def __init__(self, *paths: Path) -> None:
        self.told: list[str] = []
        self._times = 0
        self._loop = asyncio.new_event_loop()
        self._watcher = Watcher(paths, logger(self.told))
        self._watcher.start(self._loop, self._changed)
        self.told.clear()

    def _changed(self) -> None:
        self._times += 1
        self._loop.stop()

    def next(self) -> str:
        """What is said of the next change."""
        over = self._loop.call_later(PATIENCE_SECONDS, self._loop.stop)
        before = self._times
        self._loop.run_forever()
        over.cancel()
        assert self._times == before + 1, self.told
        return self.told.pop()

    def close(self) -> None:
        self._loop.close()
        self._watcher.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(*paths: Path) -> Watched:
        made.append(Watched(*paths))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project: app.py and shop/views.py."""
    project = tmp_path / "project"
    (project / "shop").mkdir(parents=True)
    (project / "app.py").write_text("")
    (project / "shop/views.py").write_text("")
    return project


Watch = Callable[..., Watched]


def said(path: Path, others: int = 0) -> str:
    if others:
        return f"{path} and {others} other{'s' if others > 1 else ''} have changed: reloading"
    return f"{path} has changed: reloading"


def as_vim_saves(path: Path) -> None:
    (path.parent / "4913").touch()
    (path.parent / "4913").unlink()
    (path.parent / f".{path.name}.swp").write_text("swap")
    path.rename(f"{path}~")
    path.write_text("new")
    Path(f"{path}~").unlink()


def as_an_editor_renames(path: Path) -> None:
    fresh = path.parent / "tmpab12cd"
    fresh.write_text("new")
    fresh.replace(path)


def in_place(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


@pytest.mark.parametrize("save", [as_vim_saves, as_an_editor_renames, in_place, Path.unlink])
def test_a_saved_file_is_told_by_its_name(tree: Path, watch: Watch, save: Callable[[Path], None]) -> None:
    watched = watch(tree)
    for path in (tree / "app.py", tree / "shop/views.py"):
        save(path)
        assert watched.next() == said(path)
    assert watched.told == []


def test_what_is_ignored_is_told_with_nothing(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/app.cpython-311.pyc").write_text("")
    (tree / ".git/objects").mkdir(parents=True)
    (tree / ".git/objects/ab").write_text("")
    (tree / "app.pyc").write_text("")
    (tree / ".#app.py").symlink_to("somebody@host.1")
    os.mkfifo(tree / "fifo")
    (tree / "empty").mkdir()
    (tree.parent / "beside").write_text("")
    (tree / "app.py").write_text("new")
    assert watched.next() == said(tree / "app.py")


def test_a_virtual_environment_is_ignored_by_what_is_in_it(tree: Path, watch: Watch) -> None:
    (tree / "env/lib").mkdir(parents=True)
    (tree / "env/pyvenv.cfg").write_text("")
    watched = watch(tree)
    (tree / "env/lib/module.py").write_text("")
    (tree / "app.py").write_text("new")
    assert watched.next() == said(tree / "app.py")
    # As venv makes one: directories, then the file that tells.
    (tree / "other/lib").mkdir(parents=True)
    (tree / "app.py").write_text("newer")
    assert watched.next() == said(tree / "app.py")
    (tree / "other/lib64").symlink_to("lib")
    (tree / "other/pyvenv.cfg").write_text("")
    (tree / "other/lib/module.py").write_text("")
    (tree / "other/lib/package").mkdir()
    (tree / "other/lib/package/module.py").write_text("")
    (tree / "shop/views.py").write_text("new")
    assert watched.next() == said(tree / "shop/views.py")


def test_what_was_asked_for_is_watched_in_a_virtual_environment_too(tree: Path, watch: Watch) -> None:
    (tree / "env/lib").mkdir(parents=True)
    (tree / "env/pyvenv.cfg").write_text("")
    watched = watch(tree / "env/lib", tree)
    (tree / "env/lib/module.py").write_text("")
    assert watched.next() == said(tree / "env/lib/module.py")


def test_a_project_may_be_a_virtual_environment_too(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    (tree / "pyvenv.cfg").write_text("")
    assert watched.next() == said(tree / "pyvenv.cfg")
    (tree / "shop/views.py").write_text("new")
    assert watched.next() == said(tree / "shop/views.py")


def test_new_directories_are_watched_as_they_appear(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/one.py").write_text("")
    assert watched.next() == said(tree / "a/b/one.py")
    (tree / "a/b/two.py").write_text("")
    assert watched.next() == said(tree / "a/b/two.py")


def test_a_directory_that_is_moved_is_known_by_its_new_name(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    (tree / "shop").rename(tree / "store")
    assert watched.next() == said(tree / "shop", 1)
    (tree / "store/views.py").write_text("new")
    assert watched.next() == said(tree / "store/views.py")
    (tree / "store").rename(tree.parent / "away")
    assert watched.next() == said(tree / "store")
    (tree.parent / "away/views.py").write_text("unseen")
    (tree / "app.py").write_text("new")
    assert watched.next() == said(tree / "app.py")


def test_a_checkout_is_one_change(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    shutil.rmtree(tree / "shop")
    (tree / "shop").mkdir()
    for number in range(50):
        (tree / f"shop/{number}.py").write_text("")
    assert watched.next() == said(tree / "shop/views.py", 50)


def test_a_watched_directory_may_be_made_anew(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    shutil.rmtree(tree)
    watched.next()
    (tree / "shop").mkdir(parents=True)
    (tree / "shop/views.py").write_text("new")
    assert watched.next() == said(tree / "shop/views.py")


def test_what_leads_to_a_watched_directory_may_be_made_anew(tree: Path, watch: Watch) -> None:
    watched = watch(tree / "shop", tree / "app.py")
    tree.rename(tree.parent / "away")
    assert watched.next() == said(tree)
    (tree.parent / "away/app.py").write_text("unseen")
    tree.mkdir()
    (tree / "app.py").write_text("new")
    assert watched.next() == said(tree / "app.py")
    (tree / "shop").mkdir()
    (tree / "shop/views.py").write_text("new")
    assert watched.next() == said(tree / "shop/views.py")


def test_what_is_reached_by_a_link_may_be_moved(tree: Path, watch: Watch) -> None:
    (tree.parent / "link").symlink_to("project")
    watched = watch(tree.parent / "link/shop")
    (tree / "shop").rename(tree / "away")
    assert watched.next() == said(tree.parent / "link/shop")
    (tree / "away/views.py").write_text("unseen")
    (tree / "shop").mkdir()
    (tree / "shop/new.py").write_text("")
    assert watched.next() == said(tree / "shop/new.py")


def test_a_new_file_is_a_change_when_it_is_written(tree: Path, watch: Watch) -> None:
    watched = watch(tree)
    with (tree / "log").open("w") as kept_open:
        kept_open.write("something")
        kept_open.flush()
        (tree / "linked.py").hardlink_to(tree / "app.py")
        assert watched.next() == said(tree / "linked.py")
    assert watched.next() == said(tree / "log")


def test_a_single_file_may_be_watched(tree: Path, watch: Watch) -> None:
    watched = watch(tree / "app.py", tree / "shop/views.py")
    (tree / "shop/other.py").write_text("unseen")
    as_vim_saves(tree / "app.py")
    assert watched.next() == said(tree / "app.py")
    (tree / "shop/views.py").write_text("new")
    assert watched.next() == said(tree / "shop/views.py")


@pytest.mark.parametrize("below", ["", "shop"])
def test_a_link_that_is_switched_is_a_change_and_is_followed(tree: Path, watch: Watch, below: str) -> None:
    for release in ("one", "two"):
        (tree / release / below).mkdir(parents=True)
    (tree / "current").symlink_to("one")
    watched = watch(tree / "current" / below)
    (tree / "current.new").symlink_to("two")
    (tree / "current.new").replace(tree / "current")
    assert watched.next() == said(tree / "current")
    (tree / "one" / below / "app.py").write_text("unseen")
    (tree / "two" / below / "app.py").write_text("new")
    assert watched.next() == said(tree / "two" / below / "app.py")


def test_an_overflow_is_a_change_and_nothing_new_is_overlooked(
    tree: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(tree)
    (tree / "new").mkdir()

    def overflowed(self: Inotify) -> list[Notice]:
        monkeypatch.undo()
        assert self.read() != []  # lost
        return [Notice(-1, What.OVERFLOWED, "")]

    monkeypatch.setattr(Inotify, "read", overflowed)
    assert watched.next() == "more than the kernel could tell has changed: reloading"
    (tree / "new/app.py").write_text("")
    assert watched.next() == said(tree / "new/app.py")


def test_too_many_new_directories_are_an_error_that_says_what_to_raise(
    tree: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(tree)

    def full(self: Inotify, directory: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "watch", full)
    (tree / "new").mkdir()
    (tree / "app.py").write_text("new")
    assert watched.next() == said(tree / "app.py")
    (error,) = watched.told
    assert error.startswith(f"{tree / 'new'} cannot be watched: there are too many directories")
    assert "fs.inotify.max_user_watches" in error


def test_what_is_not_there_can_not_be_watched(tmp_path: Path) -> None:
    with pytest.raises(WatchError, match=r"nothing: No such file or directory$"):
        Watcher([tmp_path / "nothing"], logger([]))
