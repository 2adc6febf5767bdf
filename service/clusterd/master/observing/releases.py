"""Which release each generation serves, so that hosts can be compared: its name, and a digest of its source files.

The files are read in a thread when the import begins. What a deploy changes in place after that is not in the digest.
"""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from clusterd.metrics.page.observed import Release

MOST_FILES = 10_000
MOST_BYTES = 64 << 20
"""A directory with more has no digest: it would take too long, and is hardly that of an application alone."""
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
        for number, path in enumerate(_sources(root)):
            content = path.read_bytes()
            left -= len(content)
            if number >= MOST_FILES or left < 0:
                raise TooMuch
            name = os.fsencode(path.relative_to(root))
            digest.update(b"%d %s %d %s" % (len(name), name, len(content), content))
    except (OSError, TooMuch):
        return Release(root.name, "")
    return Release(root.name, digest.hexdigest()[:DIGEST_CHARACTERS])


def _sources(root: Path) -> Iterator[Path]:
    """The Python files below `root`, in the same order on every host: no hidden ones, and no virtual environments."""
    for directory, folders, files in os.walk(root):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _NOT_SOURCE)
        yield from (Path(directory, each) for each in sorted(files) if each.endswith(".py"))


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
                self._loop.call_soon_threadsafe(self.known.__setitem__, generation, release)

        threading.Thread(target=look, name="clusterd-release", daemon=True).start()
