"""Explains why the application, or what belongs to it, could not be loaded or has failed."""

import difflib
import json
import os
import re
import sys
from dataclasses import dataclass
from types import ModuleType

from clusterd.log import tracebacks

_TRACEBACK_BYTES = 40 * 1024
_REASON_BYTES = 4 * 1024
"""Limits in bytes of JSON, where a character may take six. Together they fit one packet of the channel."""
USUAL_NAMES = ("application", "app")
"""What Django and the tutorials of Flask and FastAPI call the application."""
_ENVIRONMENTS = (".venv", "venv")
"""The usual names of a virtual environment, in the directory of the application."""


@dataclass(frozen=True)
class LoadError(Exception):
    """The application or one of its hooks cannot be loaded."""

    reason: str
    """One line: the exception, and its place in the application."""
    traceback: str
    """The application's part of the traceback."""
    permanent: bool = True
    """Whether the load fails again as long as the files are the same: a syntax error, a missing module, a wrong name.

    Any other exception of an import may be temporary, such as a database that is not up yet.
    """

    def __str__(self) -> str:
        return self.reason


def describe(error: BaseException, what: str) -> LoadError:
    """Return `error` as a LoadError about `what`, such as `app: shop:app`, without the frames of clusterd."""
    reason = f"{what}: {tracebacks.in_one_line(error)}"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        reason += _where_to_look(error.name, what)
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType) and error.name is not None:
        reason += _what_was_meant(error.obj, error.name)
    return _load_error(reason, tracebacks.application_traceback(error), permanent=_is_permanent(error))


def describe_text(text: str, what: str) -> LoadError:
    """Return the `text` of an application, which is often a traceback, as a LoadError about `what`."""
    line, traceback = tracebacks.of_text(text)
    return _load_error(f"{what}: {line}", traceback, permanent=False)


def _load_error(reason: str, traceback: str, *, permanent: bool) -> LoadError:
    """Return a LoadError that fits a packet."""
    if _json_bytes(reason) > _REASON_BYTES:
        reason = f"{reason[: _REASON_BYTES // 12]} ... {reason[-_REASON_BYTES // 12 :]}"  # The place is at the end.
    if _json_bytes(traceback) > _TRACEBACK_BYTES:
        traceback = traceback[-_TRACEBACK_BYTES // 6 :]
    return LoadError(reason, traceback, permanent)


def _json_bytes(text: str) -> int:
    return len(json.dumps(text))


def _is_permanent(error: BaseException) -> bool:
    """Whether the error is in the files. This includes exceptions of clusterd's own classes, by which it refuses a call
    that the files make.
    """
    return isinstance(error, SyntaxError | ModuleNotFoundError) or type(error).__module__.startswith("clusterd.")


def _where_to_look(missing: str, what: str) -> str:
    """What helps to find the module `missing`. Empty for a part of a package that was found."""
    named = what.rpartition(" ")[2].partition(":")[0]
    parent, _, last = missing.rpartition(".")
    if parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
        return f"; for what is named {last} in it, write {parent}:{last}" if what.endswith(missing) else ""
    if f"{named}.".startswith(f"{missing}."):
        return f" in {os.getcwd()} or on sys.path (directory: says where to look first)"
    if "." in missing:
        return ""
    if _is_in(above := os.path.dirname(os.getcwd()), missing):
        return f"; it is in {above}, and directory: says where to look first"
    return f"; {sys.executable} does not have it{_other_interpreter()}"


def _what_was_meant(module: ModuleType, name: str) -> str:
    """What is there in place of what `module` does not have: the nearest name, a module of the package, or the name
    that applications usually have.
    """
    names = vars(module)
    usual = USUAL_NAMES if name in USUAL_NAMES else ()
    near = difflib.get_close_matches(name, names, n=1) or [each for each in usual if each in names]
    if near:
        return f"; did you mean {near[0]}?"
    directories = getattr(module, "__path__", ())
    if any(_is_in(directory, name) for directory in directories):
        return f"; {name} is a module of that package: write {module.__name__}.{name}"
    return ""


def _is_in(directory: str, module: str) -> bool:
    return any(os.path.exists(os.path.join(directory, each)) for each in (f"{module}.py", f"{module}/__init__.py"))


def _other_interpreter() -> str:
    """The hint at the setting `python`, with the virtual environment nearby. Empty if that is in use already."""
    beside = [os.path.join(os.getcwd(), name) for name in _ENVIRONMENTS]
    for environment in (*beside, os.environ.get("VIRTUAL_ENV", "")):
        python = os.path.join(environment, "bin", "python")
        if environment and os.access(python, os.X_OK):
            is_in_use = os.path.realpath(environment) == os.path.realpath(sys.prefix)
            return "" if is_in_use else f" (python: {python} would use the virtual environment there)"
    if sys.prefix != sys.base_prefix and not any(map(_has_clusterd, sys.path)):
        return ""  # The setting has been used: clusterd itself would run in an environment that it is installed in.
    return " (python: names the interpreter of the application, such as that of its virtual environment)"


def _has_clusterd(directory: str) -> bool:
    """Whether clusterd is installed there (PyPA: recording installed projects)."""
    try:
        return any(re.fullmatch(r"clusterd-.*\.dist-info", name) for name in os.listdir(directory))
    except OSError:
        return False
