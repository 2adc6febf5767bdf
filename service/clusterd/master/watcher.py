"""`clusterd --watch`: files and directories whose changes end in a reload."""

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterd.linux.inotify import Inotify, Notice, What
from clusterd.log import Logger
from clusterd.master.file_changes import SOMETHING, FileChanges, is_ignored, sentence


class WatchError(Exception):
    """Why something can not be watched, in words for whoever has asked for it."""


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    is_whole: bool
    """Whether everything in it matters, and not only a path that was asked for."""


class Watcher:
    """Watches paths from its beginning on, directories with all that is in them. Raises WatchError.

    Each path is watched in the directory that it is in: editors, checkouts and deploys put another file, directory or
    link in its place, of which a watch on the old one would never hear.
    """

    def __init__(self, paths: Sequence[Path], log: Logger) -> None:
        self._log = log
        self._changes = FileChanges()
        self._directories: dict[int, _Directory] = {}
        self._roots = [_absolute(path) for path in paths]
        self._here = os.getcwd()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._inotify = Inotify()
        except OSError as error:
            raise WatchError(f"--watch: {_advice(error)}") from error
        try:
            for root in self._roots:
                self._begin(root)
        except BaseException:
            self._inotify.close()
            raise

    def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call `changed` on `loop` whenever something has changed, and the log has heard what."""
        self._loop, self._changed = loop, changed
        loop.add_reader(self._inotify.descriptor, self._read)
        self._log.info(f"watching {' '.join(self._roots)}", directories=len(self._directories))

    def close(self) -> None:
        """Watch nothing any more. Not before the loop has ended."""
        self._inotify.close()

    # ---- what is watched

    def _begin(self, root: str) -> None:
        try:
            mode = os.stat(root).st_mode
        except OSError as error:
            raise WatchError(f"--watch {root}: {error.strerror}") from error
        if not os.access(root, os.R_OK):
            raise WatchError(f"--watch {root}: permission denied")
        directory, name = os.path.split(root)
        if name:
            self._watch(directory, is_whole=False)
        if stat.S_ISDIR(mode):
            self._watch_tree(os.path.realpath(root))

    def _watch(self, path: str, *, is_whole: bool = True) -> bool:
        """Watch a directory; whether it is there to be watched."""
        try:
            number = self._inotify.watch(path)
        except (FileNotFoundError, NotADirectoryError):
            return False  # already gone
        except PermissionError:
            self._log.notice(f"{path} is not watched: permission denied")
            return False
        except OSError as error:
            raise WatchError(f"{path} can not be watched: {_advice(error)}") from error
        known = self._directories.get(number)
        self._directories[number] = _Directory(path, is_whole or (known is not None and known.is_whole))
        return True

    def _watch_tree(self, top: str) -> list[str]:
        """Watch a directory and those below it; the files that are there."""
        files, waiting = [], [top]
        while waiting:
            path = waiting.pop()
            # Before it is listed: whatever comes after that will be told.
            if not self._watch(path):
                continue
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        is_directory = entry.is_dir(follow_symlinks=False)
                        if is_ignored(entry.name, is_directory=is_directory):
                            continue
                        if is_directory:
                            waiting.append(entry.path)
                        elif _may_be_read(entry.path):
                            files.append(entry.path)
            except OSError:
                continue  # gone meanwhile
        return files

    def _forget_tree(self, top: str) -> None:
        """A directory has moved: what is known by its old path is somewhere else."""
        below = f"{top}/"
        for number, directory in list(self._directories.items()):
            if directory.path == top or directory.path.startswith(below):
                del self._directories[number]
                try:
                    self._inotify.unwatch(number)
                except OSError:
                    pass  # it was deleted meanwhile, and its notice is on the way

    # ---- what happens

    def _read(self) -> None:
        for notice in self._inotify.read():
            try:
                self._take(notice)
            except WatchError as error:
                self._log.error(str(error))
        self._set_timer()

    def _take(self, notice: Notice) -> None:
        if notice.what & What.OVERFLOWED:
            self._lost_count()
            return
        directory = self._directories.get(notice.watch)
        if directory is None:
            return
        if notice.what & What.UNWATCHED:
            del self._directories[notice.watch]
            return
        path = os.path.join(directory.path, notice.name)
        is_directory = bool(notice.what & What.DIRECTORY)
        # Whatever was asked for by name is not ignored.
        if path not in self._roots and (not directory.is_whole or is_ignored(notice.name, is_directory=is_directory)):
            return
        if is_directory:
            self._take_directory(path, notice.what)
        else:
            self._take_file(path, notice.what)

    def _take_directory(self, path: str, what: What) -> None:
        """It counts by its files. Each was deleted before it was; when it moves, nobody tells of them."""
        now = time.monotonic()
        if what & (What.CREATED | What.ARRIVED):
            for file in self._watch_tree(path):
                self._changes.appeared(file, now)
        elif what & What.LEFT:
            self._forget_tree(path)
            self._changes.vanished(path, now)

    def _take_file(self, path: str, what: What) -> None:
        now = time.monotonic()
        if what & (What.DELETED | What.LEFT):
            self._changes.vanished(path, now)
        elif what & What.WRITTEN:
            self._changes.written(path, now)
        elif _may_be_read(path):
            self._changes.appeared(path, now)
            if path in self._roots and os.path.isdir(path):
                self._watch_tree(os.path.realpath(path))  # a link that leads elsewhere now

    def _lost_count(self) -> None:
        """Directories may have come that nobody was told of."""
        self._changes.written(SOMETHING, time.monotonic())
        for root in self._roots:
            if os.path.isdir(root):
                self._watch_tree(os.path.realpath(root))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_at = self._changes.due_at
        if due_at is not None and self._loop is not None:
            self._timer = self._loop.call_later(due_at - time.monotonic(), self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._log.notice(f"{sentence(self._changes.take(), self._here)}: reloading")
        self._changed()


def _absolute(path: Path) -> str:
    """The path with every link followed but the last one, which may be switched."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def _may_be_read(path: str) -> bool:
    """Not a socket or a FIFO. What is gone again will be told of."""
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
