"""The working directory, by the name by which it was entered.

The kernel knows it by what it is: after `cd current`, it stays in the release that the link led to then. The shell's
$PWD is the name, and what that leads to later is the next release, or the directory that took the first one's place.
"""

import os
from collections.abc import Mapping


def working_directory() -> str:
    """Absolute, its symbolic links unresolved. Raises OSError where it is known by no name and has been deleted."""
    if _NAME is not None and _identity(".") == _ENTERED:
        return _NAME
    return os.getcwd()


def absolute(path: str | os.PathLike[str]) -> str:
    """`path` from the working directory. With `..` in it, from where that really is: so does the kernel go up."""
    path = os.fspath(path)
    if os.pardir in path.split("/"):
        return os.path.abspath(path)
    return os.path.normpath(os.path.join(working_directory(), path))


def entered_as(environ: Mapping[str, str]) -> str | None:
    """$PWD, if it is a name of the working directory, as `pwd -L` has it."""
    name = environ.get("PWD", "")
    is_name = name.startswith("/") and os.path.normpath(name) == name
    return name if is_name and _identity(name) == _identity(".") else None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# At the start: once the link is switched, the name is that of another directory.
_NAME = entered_as(os.environ)
_ENTERED = _identity(".")
