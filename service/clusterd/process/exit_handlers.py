"""The exit handlers of an application that is imported in one process and runs in many.

A handler that the application registers at import (atexit) is inherited by every worker. Most of them flush something,
as those of logging and of what reports errors and traces, and each worker has something to flush. A few must run once,
because they remove files or end processes that all workers use. docs/workers.md has the rule.
"""

import atexit
import functools
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

NAMES_OF_REMOVERS = frozenset(
    {"__exit__", "cleanup", "kill", "killpg", "removedirs", "rmdir", "rmtree", "terminate", "unlink"}
)
"""A handler with such a name runs once: `shutil.rmtree`, `directory.cleanup`, `process.terminate`.

So does `os.remove`. Others of that name remove no file: a list's, or that of a logger, which flushes its sinks.
"""

CALLS_OF_REMOVERS = NAMES_OF_REMOVERS - {"cleanup"}
"""A handler whose code calls such a function, or `os.remove`, runs once."""

_recorded: list[Callable[..., object]] = []
_register = atexit.register


def record() -> None:
    """Remember the handlers that are registered from now on. To be called before the application is imported.

    atexit cannot be asked which handlers there are.
    """
    atexit.register = _record


def _record(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    _recorded.append(func)
    return _register(func, *args, **kwargs)


def forget_what_runs_once() -> None:
    """Drop what belongs to the template. To be called in a process forked from it that is to run the application.

    These are the handlers that run once, and every `weakref.finalize`: such as that of a TemporaryDirectory, which the
    first worker to exit would otherwise delete for all the others. The handler of `multiprocessing` stays. It must find
    no children: those of the template are not this process's to end.
    """
    atexit.register = _register
    for handler in _recorded:
        if runs_once(handler):
            atexit.unregister(handler)
    _recorded.clear()
    # Neither module has a public call for this. weakref has had the registry since Python 3.4, and multiprocessing
    # empties this set in its own children, too.
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):
        finalizer.atexit = False
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"]._children.clear()


def runs_once(handler: Callable[..., object]) -> bool:
    """Whether a handler removes files or ends processes, as far as its name and the calls in its code tell."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if getattr(handler, "__module__", "") == "multiprocessing.util":
        return False  # It ends the children of its own process.
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, ExitStack) or getattr(handler, "__name__", "") in NAMES_OF_REMOVERS or handler == os.remove:
        return True
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    if code is None:  # It is written in C, or an object that can be called.
        code = getattr(type(handler).__call__, "__code__", None)
    if code is None:
        return False
    names = frozenset(code.co_names)
    return bool(names & CALLS_OF_REMOVERS) or names >= {"os", "remove"}
