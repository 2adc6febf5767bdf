"""The working directory, by the name under which it was entered.

The kernel identifies the working directory by its inode: after `cd current`, the process stays in the release that
the link pointed to at that time. The shell's $PWD is the name. Resolved later, it leads to the next release, or to the
directory that replaced the first one.
"""

import os
from collections.abc import Mapping


def working_directory() -> str:
    """Return it absolute, with symbolic links unresolved. Raises OSError if it was deleted and has no known name."""
    if _NAME is not None and _identity(".") == _ENTERED:
        return _NAME
    return os.getcwd()


def absolute(path: str | os.PathLike[str]) -> str:
    """Return `path` as an absolute path.

    A path with `..` is resolved from the real working directory, because the kernel goes up from there too.
    """
    path = os.fspath(path)
    if os.pardir in path.split("/"):
        return os.path.abspath(path)
    return os.path.normpath(os.path.join(working_directory(), path))


def entered_as(environ: Mapping[str, str]) -> str | None:
    """Return $PWD if it is a name of the working directory, as `pwd -L` does, else None."""
    name = environ.get("PWD", "")
    is_name = name.startswith("/") and os.path.normpath(name) == name
    return name if is_name and _identity(name) == _identity(".") else None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


# Read at the start: after the link is switched, the name belongs to another directory.
_NAME = entered_as(os.environ)
_ENTERED = _identity(".")
