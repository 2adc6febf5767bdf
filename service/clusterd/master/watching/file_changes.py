"""Decide which file changes matter, and when to act on them. Pure: this module reads no file and no clock."""

import re
from collections.abc import Sequence

PAUSE_SECONDS = 0.2
"""The reload waits until no file has changed for this long: an editor or a checkout changes several files at once."""
MOST_SECONDS = 5.0
"""The longest that a reload waits. A file that changes all the time would otherwise delay it for ever."""

SEVERAL = 5
"""A warning is logged when the same file causes this many reloads in a row."""
SOON_SECONDS = 10.0
"""The longest time between two of them."""

ENVIRONMENT_MARK = "pyvenv.cfg"
"""A directory with this file is a virtual environment, whatever its name: thousands of files of other projects."""

SOMETHING = "more than the kernel could tell"
"""Stands in place of a path when the kernel's queue has overflowed (IN_Q_OVERFLOW, inotify(7))."""

_IGNORED_DIRECTORIES = frozenset(
    {
        *("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox"),
        *(".git", ".hg", ".svn", ".bzr"),
        *(".idea", ".vscode"),
        # Thousands of directories of other projects, each of which would take a watch.
        *(".venv", "venv", "node_modules"),
    }
)
_IGNORED_FILES = re.compile(
    r".*\.py[cod]"  # Python
    r"|.*~|\..*\.sw[a-z]|4913"  # vim: backup, swap, and the name with which it tests whether it may write
    r"|\.?#.*"  # Emacs: lock and autosave
    r"|\..*\.kate-swp|\.goutputstream-.*"  # Kate, GNOME
    r"|.*___jb_(tmp|old)___"  # JetBrains
    r"|\.nfs[0-9a-f]+",
    re.DOTALL,
)


def is_ignored(name: str, *, is_directory: bool) -> bool:
    """Whether `name`, without its directory, is that of a file of an editor, of Python or of version control."""
    return name in _IGNORED_DIRECTORIES if is_directory else _IGNORED_FILES.fullmatch(name) is not None


def is_within(path: str, directory: str) -> bool:
    """Whether `path` is `directory` itself, which may also be a file, or is in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


class FileChanges:
    """The changes that no reload was made for yet. Times are in seconds, as time.monotonic()."""

    def __init__(self) -> None:
        self._is_new: dict[str, bool] = {}
        """Whether the file is new, by path, in the order of the first change."""
        self._begun: set[str] = set()
        """New files that are still open for writing. Such a file, for example a log, may stay open for ever."""
        self._first = 0.0
        self._last = 0.0

    def appeared(self, path: str, now: float) -> None:
        """A complete new file has appeared."""
        self._note(path, is_new=True, now=now)

    def begun(self, path: str) -> None:
        """A new file was created. It counts as a change once it is written and closed."""
        self._begun.add(path)

    def written(self, path: str, now: float) -> None:
        """A file that was open for writing was closed (IN_CLOSE_WRITE, inotify(7))."""
        self._note(path, is_new=path in self._begun, now=now)
        self._begun.discard(path)

    def vanished(self, path: str, now: float) -> None:
        """A file or directory has gone. If it was new, it was temporary, and nothing has changed."""
        new = [*self._begun, *(each for each, is_new in self._is_new.items() if is_new)]
        temporary = [each for each in new if is_within(each, path)]
        for each in temporary:
            self._begun.discard(each)
            self._is_new.pop(each, None)
        if not temporary:
            self._note(path, is_new=False, now=now)

    def forget(self, directory: str) -> None:
        """Forget the changes in a directory that turned out not to matter."""
        self._begun = {each for each in self._begun if not is_within(each, directory)}
        self._is_new = {each: is_new for each, is_new in self._is_new.items() if not is_within(each, directory)}

    def _note(self, path: str, *, is_new: bool, now: float) -> None:
        if not self._is_new:
            self._first = now
        self._last = now
        self._is_new.setdefault(path, is_new)

    @property
    def due_at(self) -> float | None:
        """The time to reload; None if nothing has changed."""
        return min(self._last + PAUSE_SECONDS, self._first + MOST_SECONDS) if self._is_new else None

    def take(self) -> Sequence[str]:
        """Return the paths that have changed, and forget them."""
        paths = list(self._is_new)
        self._is_new.clear()
        return paths


class Repetition:
    """Detects a file that changes at each reload: an application that writes to it at import is reloaded for ever."""

    def __init__(self) -> None:
        self._path = ""
        self._times = 0
        self._last = 0.0

    def is_striking(self, path: str, now: float) -> bool:
        """Whether this change of `path` is the one in a row to warn about. True once in a row."""
        goes_on = path == self._path and now - self._last < SOON_SECONDS
        self._times = self._times + 1 if goes_on else 1
        self._path, self._last = path, now
        return self._times == SEVERAL


def sentence(paths: Sequence[str], directory: str) -> str:
    """The changed paths in words. The first one is relative to `directory`, if it is in it."""
    first, more = paths[0].removeprefix(f"{directory.rstrip('/')}/"), len(paths) - 1
    if not more:
        return f"{first} has changed"
    return f"{first} and {more} other{'s' if more > 1 else ''} have changed"
