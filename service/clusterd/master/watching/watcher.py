"""`clusterd --watch`: watch files and directories with inotify(7), and reload when they change."""

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clusterd.config.reading.working_directory import absolute, working_directory
from clusterd.linux.inotify import Inotify, Notice, What
from clusterd.log import Logger
from clusterd.master.watching.file_changes import (
    ENVIRONMENT_MARK,
    SEVERAL,
    SOMETHING,
    FileChanges,
    Repetition,
    is_ignored,
    is_within,
    sentence,
)
from clusterd.records import dataclass


class WatchError(Exception):
    """A path cannot be watched. The message tells the operator why."""


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    is_whole: bool
    """Whether every entry of it matters. If not, only the entries that lead to a watched path do."""


class Watcher:
    """Watches paths from its construction on; directories with everything in them. Raises WatchError.

    The directories that lead to a path are watched too. Editors, checkouts and deploys replace a file, directory or
    link by another one, and a watch on the old one would not notice that.
    """

    def __init__(self, paths: Sequence[Path], log: Logger) -> None:
        self._log = log
        self._changes = FileChanges()
        self._repetition = Repetition()
        self._directories: dict[int, _Directory] = {}
        self._roots = [absolute(path) for path in paths]
        self._named = {str(each) for root in self._roots for each in (Path(root), *Path(root).parents)}
        """The paths that were asked for, and the directories that lead to them. None of them is ignored."""
        self._leading: set[str] = set()
        """The same with symbolic links resolved, as of the last `_watch_all`."""
        self._here = working_directory()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed: Callable[[], None] = lambda: None
        for root in self._roots:
            _check(root)
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise WatchError(f"watch: {_advice(error)}") from error
        try:
            self._watch_all()
        except BaseException:
            self._inotify.close()
            raise

    def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call `changed` on `loop` whenever files have changed, after their names were logged."""
        self._loop, self._changed = loop, changed
        loop.add_reader(self._inotify.descriptor, self._read)
        count = sum(directory.is_whole for directory in self._directories.values())
        self._log.info(f"watching {' '.join(self._roots)}", directories=count)

    def close(self) -> None:
        """Stop watching. Must be called after the loop has ended."""
        self._inotify.close()

    # ---- watches

    def _watch_all(self) -> list[str]:
        """Watch every path that was asked for and exists, and nothing else. Returns the files found."""
        before, self._directories = self._directories, {}
        really = [Path(os.path.realpath(root)) for root in self._roots]
        self._leading = {str(each) for path in really for each in (path, *path.parents)}
        files = []
        try:
            for root in self._roots:
                for leading in reversed(Path(root).parents):
                    self._watch(str(leading), is_whole=False)
                if os.path.isdir(root):
                    files += self._watch_tree(os.path.realpath(root))
                elif os.path.lexists(root):
                    files.append(root)
        except WatchError:
            self._directories = before | self._directories
            raise
        # inotify gives a directory that is watched already the same number again, so none of its changes is missed.
        self._unwatch(before.keys() - self._directories.keys())
        return files

    def _watch(self, path: str, *, is_whole: bool = True) -> bool:
        """Watch a directory. Returns False if it has gone or cannot be read."""
        try:
            number = self._inotify.watch(path)
        except (FileNotFoundError, NotADirectoryError):
            return False  # It has gone already.
        except PermissionError:
            self._log.notice(f"{path} is not watched: permission denied")
            return False
        except OSError as error:
            raise WatchError(f"{path} cannot be watched: {_advice(error)}") from error
        known = self._directories.get(number)
        if is_whole or known is None:
            self._directories[number] = _Directory(path, is_whole)
        return True

    def _watch_tree(self, top: str) -> list[str]:
        """Watch a directory and its subdirectories, except virtual environments. Returns the files found."""
        files, waiting = [], [top]
        while waiting:
            path = waiting.pop()
            # Watch before listing, so that inotify reports what is added after the listing.
            if not self._watch(path):
                continue
            try:
                with os.scandir(path) as listing:
                    entries = list(listing)
            except OSError:
                continue  # It has gone meanwhile.
            if any(self._tells_of_an_environment(path, entry.name) for entry in entries):
                self._forget_tree(path)
                continue
            for entry in entries:
                is_directory = entry.is_dir(follow_symlinks=False)
                if is_ignored(entry.name, is_directory=is_directory):
                    continue
                if is_directory:
                    waiting.append(entry.path)
                elif _may_be_read(entry.path):
                    files.append(entry.path)
        return files

    def _tells_of_an_environment(self, directory: str, name: str) -> bool:
        """Whether a file marks its directory as a virtual environment, which the operator has not asked to watch."""
        return name == ENVIRONMENT_MARK and directory not in self._leading

    def _forget_tree(self, top: str) -> None:
        """Forget a directory that has moved, or does not matter, and everything in it."""
        moved = {number for number, each in self._directories.items() if is_within(each.path, top)}
        for number in moved:
            del self._directories[number]
        self._unwatch(moved)

    def _unwatch(self, numbers: set[int]) -> None:
        for number in numbers:
            try:
                self._inotify.unwatch(number)
            except OSError:
                pass  # The directory was deleted meanwhile, and its notice is on the way.

    # ---- notices

    def _read(self) -> None:
        for notice in self._inotify.read():
            try:
                self._take(notice)
            except WatchError as error:
                self._log.error(str(error))
        self._set_timer()

    def _take(self, notice: Notice) -> None:
        if notice.what & What.OVERFLOWED:
            # New directories may have been missed.
            self._changes.written(SOMETHING, time.monotonic())
            self._watch_all()
            return
        directory = self._directories.get(notice.watch)
        if directory is None:
            return
        if notice.what & What.UNWATCHED:
            del self._directories[notice.watch]
            return
        if directory.is_whole and self._tells_of_an_environment(directory.path, notice.name):
            self._forget_tree(directory.path)
            self._changes.forget(directory.path)
            return
        path = os.path.join(directory.path, notice.name)
        is_directory = bool(notice.what & What.DIRECTORY)
        if path not in self._named and (not directory.is_whole or is_ignored(notice.name, is_directory=is_directory)):
            return
        if is_directory:
            self._take_directory(path, notice.what)
        else:
            self._take_file(path, notice.what)

    def _take_directory(self, path: str, what: What) -> None:
        """Handle a notice about a directory. Its files count as the changes.

        A directory that is deleted needs no handling: inotify has reported the deletion of each of its files. A
        directory that moves does: inotify does not report its files.
        """
        now = time.monotonic()
        is_named = path in self._named
        if what & (What.CREATED | What.ARRIVED):
            real = os.path.realpath(path)
            for file in self._watch_all() if is_named else self._watch_tree(path):
                if is_within(file, path) or is_within(file, real):
                    self._changes.appeared(file, now)
        elif what & What.LEFT:
            if is_named:
                self._watch_all()
            else:
                self._forget_tree(path)
            self._changes.vanished(path, now)

    def _take_file(self, path: str, what: What) -> None:
        now = time.monotonic()
        if what & (What.DELETED | What.LEFT):
            self._changes.vanished(path, now)
        elif what & What.WRITTEN:
            self._changes.written(path, now)
        elif what & What.CREATED and _is_being_written(path):
            self._changes.begun(path)
        elif _may_be_read(path):
            self._changes.appeared(path, now)
            if path in self._named:
                self._watch_all()  # It may be a link that leads to another place now.

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self._changes.due_at
        if due_at is not None and self._loop is not None:
            self._timer = self._loop.call_later(due_at - time.monotonic(), self._report)

    def _report(self) -> None:
        self._timer = None
        paths, here = self._changes.take(), os.path.realpath(self._here)
        self._log.notice(f"{sentence(paths, here)}: reloading")
        if self._repetition.is_striking(paths[0], time.monotonic()):
            self._log.warning(
                f"{sentence(paths[:1], here)} {SEVERAL} times in a row: if the application writes it, that reloads for "
                "ever; have it written elsewhere, or watch the directory of the code alone"
            )
        self._changed()


def _check(root: str) -> None:
    try:
        os.stat(root)
    except OSError as error:
        raise WatchError(f"watch {root}: {error.strerror}") from error
    if not os.access(root, os.R_OK):
        raise WatchError(f"watch {root}: permission denied")


def _is_being_written(path: str) -> bool:
    """Whether `path` is a new file. A second link to an existing file is not: it is complete already."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _may_be_read(path: str) -> bool:
    """Whether `path` is a file or a link, not a socket or a FIFO. True if it has gone: a notice of that will follow."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC:
            return (
                f"there are too many directories: the kernel watches {_limit('max_user_watches')} for a user. Raise "
                "fs.inotify.max_user_watches, as in sysctl fs.inotify.max_user_watches=524288, or watch fewer"
            )
        case errno.EMFILE:
            return (
                f"too many programs of this user watch files: the kernel lets {_limit('max_user_instances')} of them. "
                "Raise fs.inotify.max_user_instances, as in sysctl fs.inotify.max_user_instances=1024"
            )
        case _:
            return error.strerror or str(error)


def _limit(name: str) -> str:
    try:
        return Path("/proc/sys/fs/inotify", name).read_text().strip()
    except OSError:
        return "no more"
