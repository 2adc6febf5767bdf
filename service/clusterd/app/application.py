"""Loads the application that the configuration names."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from clusterd.app.errors import USUAL_NAMES, LoadError, describe
from clusterd.app.signatures import unfit_signature
from clusterd.config.model import Config, Interface
from clusterd.log import Logger
from clusterd.records import dataclass
from clusterd.runtime.hub import is_used, note_background

Application = Callable[..., Any]

_NO_EVENTLET = (
    "and clusterd does not serve eventlet, which its authors advise against: use threads (remove the call), or "
    "gevent (from gevent import monkey; monkey.patch_all())"
)
_WSGI_ARGUMENTS: tuple[object, ...] = ({}, None)
_ASGI_ARGUMENTS: tuple[object, ...] = ({}, None, None)


@dataclass(frozen=True, slots=True)
class LoadedApplication:
    """An application and its interface."""

    application: Application
    interface: Interface
    """WSGI or ASGI."""


@dataclass(frozen=True, slots=True)
class LoadedJob:
    """The callable that the setting `run` names. A worker runs it instead of an application."""

    function: Callable[[], Any]
    is_async: bool
    reference: str


LoadedCode: TypeAlias = LoadedApplication | LoadedJob


def enter_directory(directory: str) -> None:
    """Make `directory` the working directory and the first entry of sys.path. Raises LoadError.

    Resolves symbolic links first. What this process imports later therefore still comes from the release it started
    with, even if a link such as `current` points to another release by then.
    """
    resolved = os.path.realpath(directory)
    try:
        os.chdir(resolved)
    except OSError as error:
        raise LoadError(f"directory: cannot enter {resolved}: {error.strerror}", "") from error
    os.environ["PWD"] = resolved
    sys.path.insert(0, resolved)


def load_in_directory(config: Config, log: Logger) -> LoadedCode:
    """Import the application where it lives, and note the greenlets that do its import's work. Raises LoadError."""
    enter_directory(config.directory)
    loaded = load(config)
    note_background()
    _log_greenlets(loaded, config, log)
    return loaded


def load(config: Config) -> LoadedCode:
    """Import what the setting `app` or `run` names. Raises LoadError."""
    if config.app is not None:
        return _load_application(config.app, config.interface)
    assert config.run is not None  # Exactly one of the two is set (config/reading/checks.py).
    function = _load(config.run, "run")
    if signature := unfit_signature(function, ()):
        raise LoadError(f"run: {config.run} takes {signature}, and is called without arguments", "")
    return LoadedJob(function, is_async(function), config.run)


def _load_application(reference: str, wanted: Interface) -> LoadedApplication:
    """Import what `app` names (`module:attribute`, `module:factory()` or `module`). Raises LoadError."""
    application = _load(reference, "app")
    is_asgi = is_async(application)
    if wanted is Interface.WSGI and is_asgi:
        raise LoadError(f"app: {reference} is an ASGI application, and interface: says wsgi", "")
    if is_asgi or wanted is Interface.ASGI:
        _check_call(application, reference, Interface.ASGI, _ASGI_ARGUMENTS)
        return LoadedApplication(application, Interface.ASGI)
    _check_call(application, reference, Interface.WSGI, _WSGI_ARGUMENTS)
    return LoadedApplication(application, Interface.WSGI)


def _check_call(application: Application, reference: str, interface: Interface, arguments: tuple[object, ...]) -> None:
    """Check that the application takes these arguments. Raises LoadError.

    Without this check a factory that is named without its parentheses would start, and fail at every request.
    """
    if signature := unfit_signature(application, arguments):
        wanted = f"the {len(arguments)} arguments of {interface.name}"
        if interface is Interface.WSGI and unfit_signature(application, _ASGI_ARGUMENTS) is None:
            hint = "; if it returns an awaitable, it is an ASGI application: write interface: asgi"
        elif interface is Interface.ASGI and unfit_signature(application, _WSGI_ARGUMENTS) is None:
            hint = "; it has those of WSGI: leave out interface"
        else:
            named = reference if ":" in reference else f"{reference}:{_usual_name(sys.modules[reference], reference)}"
            hint = "" if reference.endswith("()") else f"; if it makes the application, write {named}()"
        raise LoadError(f"app: {reference} takes {signature}, and not {wanted}{hint}", "")


def _log_greenlets(loaded: LoadedCode, config: Config, log: Logger) -> None:
    """Say that greenlets have taken the place of threads, which is told by the import and not by a setting."""
    if not is_used() or not isinstance(loaded, LoadedApplication):
        return
    if loaded.interface is Interface.ASGI:
        log.warning(
            "the application calls gevent.monkey.patch_all() and is ASGI: what it runs in threads, such as plain "
            "functions under Starlette and FastAPI, will never run; remove the call"
        )
    else:
        log.info(f"the application uses gevent: each request runs in a greenlet, at most {config.greenlets} per worker")


def load_hook(reference: str | None, setting: str) -> Callable[[], Any] | None:
    """Import what `worker_start` or `worker_stop` names; None if it is not set. Raises LoadError."""
    return None if reference is None else _load(reference, setting)


def _load(reference: str, setting: str) -> Application:
    module_name, _, path = reference.partition(":")
    is_factory = path.endswith("()")
    what = f"{setting}: {reference}"
    try:
        found: Any = importlib.import_module(module_name)
    except BaseException as error:
        raise describe(error, what) from error
    if (eventlet := sys.modules.get("eventlet.patcher")) is not None and eventlet.is_monkey_patched("thread"):
        raise LoadError(f"{what} calls eventlet.monkey_patch(), {_NO_EVENTLET}", "")
    try:
        names = path.removesuffix("()") or _usual_name(found, reference)
        for name in names.split("."):
            found = getattr(found, name)
    except BaseException as error:
        raise replace(describe(error, what), permanent=isinstance(error, AttributeError)) from error
    try:
        if is_factory:
            found = found()
    except BaseException as error:
        raise describe(error, what) from error
    if not callable(found):
        raise LoadError(f"{setting}: {reference} is of type {type(found).__name__} and cannot be called", "")
    return found  # type: ignore[no-any-return]


def _usual_name(module: Any, reference: str) -> str:
    """The name that the application has in a module that is named alone. Raises AttributeError."""
    for name in USUAL_NAMES:
        if hasattr(module, name):
            return name
    usual = " or ".join(USUAL_NAMES)
    raise AttributeError(f"the module has no {usual}: name what is the application, as in {reference}:name")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether `function` is a coroutine function, or an object whose `__call__` is one. Does not call it."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is inspected
    )
