"""Which changes of files matter, and when it is time to act on them. No file is touched here, and no clock read."""

import re
from collections.abc import Sequence

PAUSE_SECONDS = 0.2
"""For so long nothing may change: an editor, and more so a checkout, changes several files at once."""
MOST_SECONDS = 5.0
"""For so long at most: something may change all the time, and whoever wonders finds its name in the log."""

SEVERAL = 5
"""So many times one after the other is striking, for one and the same file."""
SOON_SECONDS = 10.0
"""How soon after the time before."""

ENVIRONMENT_MARK = "pyvenv.cfg"
"""What is beside it is a virtual environment, whatever its directory is called: thousands of files of others."""

SOMETHING = "more than the kernel could tell"
"""In place of a name, where the kernel's queue has overflowed."""

_IGNORED_DIRECTORIES = frozenset(
    {
        *("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".tox", ".nox"),
        *(".git", ".hg", ".svn", ".bzr"),
        *(".idea", ".vscode"),
        # Thousands of directories of others, each of which would take a watch.
        *(".venv", "venv", "node_modules"),
    }
)
_IGNORED_FILES = re.compile(
    r".*\.py[cod]"  # Python
    r"|.*~|\..*\.sw[a-z]|4913"  # vim: backup, swap, and the name by which it tries whether it may write
    r"|\.?#.*"  # Emacs: lock and autosave
    r"|\..*\.kate-swp|\.goutputstream-.*"  # Kate, GNOME
    r"|.*___jb_(tmp|old)___"  # JetBrains
    r"|\.nfs[0-9a-f]+",
    re.DOTALL,
)


def is_ignored(name: str, *, is_directory: bool) -> bool:
    """Whether what has this name, without its directory, is left by an editor, by Python or by version control."""
    return name in _IGNORED_DIRECTORIES if is_directory else _IGNORED_FILES.fullmatch(name) is not None


def is_within(path: str, directory: str) -> bool:
    """Whether a path is that of a directory (or a file) or of something in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


class FileChanges:
    """What has changed and was not acted on yet."""

    def __init__(self) -> None:
        self._is_new: dict[str, bool] = {}
        """By path, in the order of their first change: whether there was no such file before."""
        self._begun: set[str] = set()
        """New files that somebody still writes, and may never be done with, as a log."""
        self._first = 0.0
        self._last = 0.0

    def appeared(self, path: str, now: float) -> None:
        """There is a file of that name now."""
        self._note(path, is_new=True, now=now)

    def begun(self, path: str) -> None:
        """There is a new file, which is a change when it is written."""
        self._begun.add(path)

    def written(self, path: str, now: float) -> None:
        """Somebody who could write to a file has closed it."""
        self._note(path, is_new=path in self._begun, now=now)
        self._begun.discard(path)

    def vanished(self, path: str, now: float) -> None:
        """There is no such file or directory any more. If it was new, nothing has changed: it was temporary."""
        new = [*self._begun, *(each for each, is_new in self._is_new.items() if is_new)]
        temporary = [each for each in new if is_within(each, path)]
        for each in temporary:
            self._begun.discard(each)
            self._is_new.pop(each, None)
        if not temporary:
            self._note(path, is_new=False, now=now)

    def forget(self, directory: str) -> None:
        """It has turned out not to matter."""
        self._begun = {each for each in self._begun if not is_within(each, directory)}
        self._is_new = {each: is_new for each, is_new in self._is_new.items() if not is_within(each, directory)}

    def _note(self, path: str, *, is_new: bool, now: float) -> None:
        if not self._is_new:
            self._first = now
        self._last = now
        self._is_new.setdefault(path, is_new)

    @property
    def due_at(self) -> float | None:
        """When to act; None when there is nothing to act on."""
        return min(self._last + PAUSE_SECONDS, self._first + MOST_SECONDS) if self._is_new else None

    def take(self) -> Sequence[str]:
        """The paths that have changed, which are acted on now."""
        paths = list(self._is_new)
        self._is_new.clear()
        return paths


class Repetition:
    """Finds out a file that changes by itself: whoever writes to one at import is reloaded for ever."""

    def __init__(self) -> None:
        self._path = ""
        self._times = 0
        self._last = 0.0

    def is_striking(self, path: str, now: float) -> bool:
        """Whether this change of `path` is one too many in a row. It is said once."""
        goes_on = path == self._path and now - self._last < SOON_SECONDS
        self._times = self._times + 1 if goes_on else 1
        self._path, self._last = path, now
        return self._times == SEVERAL


def sentence(paths: Sequence[str], directory: str) -> str:
    """What has changed, in words, as seen from `directory`."""
    first, more = paths[0].removeprefix(f"{directory.rstrip('/')}/"), len(paths) - 1
    if not more:
        return f"{first} has changed"
    return f"{first} and {more} other{'s' if more > 1 else ''} have changed"
