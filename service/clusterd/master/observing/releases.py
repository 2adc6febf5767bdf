"""Which release each generation serves, so that hosts can be compared: its name, and a digest of its source files.

The files are read in a thread when the import begins. What a deploy changes in place after that is not in the digest.
The directory is the application's, so nothing in it is trusted: only regular files are read, and only so much.
"""

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from clusterd.metrics.page.observed import Release

MOST_ENTRIES = 20_000
"""Files and folders of any kind. A directory with more is hardly that of an application alone, and has no digest."""
MOST_BYTES = 64 << 20
DIGEST_CHARACTERS = 12
_NOT_SOURCE = frozenset({"__pycache__", "node_modules", "site-packages"})


class TooMuch(Exception):
    """The directory has more than is read."""


def release_of(directory: str) -> Release:
    """Return the release in `directory`, with its symbolic links resolved. The digest is empty if it cannot be made."""
    root = Path(directory).resolve()
    digest = hashlib.sha256()
    left = MOST_BYTES
    try:
        for path in sorted(_sources(root)):
            content = _content(path, left)
            left -= len(content)
            name = os.fsencode(path.relative_to(root))
            digest.update(b"%d %s %d %s" % (len(name), name, len(content), content))
    except (OSError, TooMuch):
        return Release(root.name, "")
    return Release(root.name, digest.hexdigest()[:DIGEST_CHARACTERS])


def _content(path: Path, most: int) -> bytes:
    """Return what a file contains, nothing if it is no regular file. Raises OSError and TooMuch."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # Opening a pipe would wait.
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        content = file.read(most + 1)
    if len(content) > most:
        raise TooMuch
    return content


def _sources(root: Path) -> Iterator[Path]:
    """The Python files below `root`: no hidden ones, and no virtual environments. Raises TooMuch."""
    left = MOST_ENTRIES
    folders = [root]
    while folders:
        inside: list[Path] = []
        sources: list[Path] = []
        is_environment = False
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    raise TooMuch
                is_environment = is_environment or entry.name == "pyvenv.cfg"
                if entry.name.startswith(".") or entry.name in _NOT_SOURCE:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inside.append(Path(entry.path))
                elif entry.name.endswith(".py"):
                    sources.append(Path(entry.path))
        if not is_environment:
            folders += inside
            yield from sources


class Releases:
    """The releases by generation."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.known: dict[int, Release] = {}

    def learn(self, generation: int, directory: str, is_served: Callable[[int], bool]) -> None:
        """Look at the release of a generation that begins, in a thread. Generations that are gone are forgotten."""
        self.known = {each: release for each, release in self.known.items() if is_served(each)}

        def look() -> None:
            release = release_of(directory)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._found, generation, release)

        with suppress(RuntimeError):  # No thread can be started. Then it is not known which release this is.
            threading.Thread(target=look, name="clusterd-release", daemon=True).start()

    def _found(self, generation: int, release: Release) -> None:
        self.known[generation] = release
