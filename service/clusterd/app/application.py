"""Loads the application that the configuration names, and explains why a load failed."""

import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeAlias

from clusterd.app.signatures import unfit_signature
from clusterd.config.model import Config, Interface
from clusterd.runtime.hub import is_used

Application = Callable[..., Any]

_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "service/clusterd/"
"""Prefixes of the names of clusterd's files: as Python imports them, and as mypyc records them in compiled code."""
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_USUAL_NAMES = ("application", "app")
"""What Django and the tutorials of Flask and FastAPI call the application."""
_NO_EVENTLET = (
    "and clusterd does not serve eventlet, which its authors advise against: use threads (remove the call), or "
    "gevent (from gevent import monkey; monkey.patch_all())"
)
_ASGI_ARGUMENTS: tuple[object, ...] = ({}, None, None)
_TRACEBACK_BYTES = 40 * 1024
_REASON_BYTES = 4 * 1024
"""Limits in bytes of JSON, where a character may take six. Together they fit one packet of the channel."""


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
    _check_call(application, reference, Interface.WSGI, ({}, None))
    return LoadedApplication(application, Interface.WSGI)


def _check_call(application: Application, reference: str, interface: Interface, arguments: tuple[object, ...]) -> None:
    """Check that the application takes these arguments. Raises LoadError.

    Without this check a factory that is named without its parentheses would start, and fail at every request.
    """
    if signature := unfit_signature(application, arguments):
        wanted = f"the {len(arguments)} arguments of {interface.name}"
        if interface is Interface.WSGI and unfit_signature(application, _ASGI_ARGUMENTS) is None:
            hint = "; if it returns an awaitable, it is an ASGI application: write interface: asgi"
        else:
            hint = "" if reference.endswith("()") else f"; if it makes the application, write {reference}()"
        raise LoadError(f"app: {reference} takes {signature}, and not {wanted}{hint}", "")


def unfit_for_greenlets(loaded: LoadedCode) -> str | None:
    """A warning if greenlets have taken the place of the threads that an ASGI application may need."""
    if is_used() and isinstance(loaded, LoadedApplication) and loaded.interface is Interface.ASGI:
        return (
            "the application calls gevent.monkey.patch_all() and is ASGI: what it runs in threads, such as plain "
            "functions under Starlette and FastAPI, will never run; remove the call"
        )
    return None


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
        raise LoadError(f"{setting}: {reference} is a {type(found).__name__}, which cannot be called", "")
    return found  # type: ignore[no-any-return]


def _usual_name(module: Any, reference: str) -> str:
    """The name that the application has in a module that is named alone. Raises AttributeError."""
    for name in _USUAL_NAMES:
        if hasattr(module, name):
            return name
    usual = " or ".join(_USUAL_NAMES)
    raise AttributeError(f"the module has no {usual}: name what is the application, as in {reference}:name")


def describe(error: BaseException, what: str) -> LoadError:
    """Return `error` as a LoadError about `what`, without the frames of clusterd and of the import machinery."""
    frames = _application_frames(error.__traceback__)
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({error.filename}:{error.lineno})"
    elif frames is not None:
        place = f" ({_place(frames)})"
    message = _message_of(error)
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f" {error.name}" in f" {what}":
        message += f" in {os.getcwd()} or on sys.path (directory: says where to look first)"
    reason = f"{what}: {type(error).__name__}{': ' if message else ''}{message}{place}"
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    reason = " ".join(reason.split())
    if _json_bytes(reason) > _REASON_BYTES:
        reason = f"{reason[: _REASON_BYTES // 12]} ... {reason[-_REASON_BYTES // 12 :]}"  # The place is at the end.
    if _json_bytes(text) > _TRACEBACK_BYTES:
        text = text[-_TRACEBACK_BYTES // 6 :]
    return LoadError(reason, text, permanent=_is_permanent(error))


def _is_permanent(error: BaseException) -> bool:
    """Whether the error is in the files. This includes exceptions of clusterd's own classes, by which it refuses a call
    that the files make.
    """
    return isinstance(error, SyntaxError | ModuleNotFoundError) or type(error).__module__.startswith("clusterd.")


def _message_of(error: BaseException) -> str:
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error).strip()
    except Exception:
        return "<an exception that fails to say what it is>"


def _json_bytes(text: str) -> int:
    return len(json.dumps(text))


def _application_frames(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that belongs neither to clusterd nor to importlib; None if there is none."""
    each = frames
    while each is not None:
        filename = each.tb_frame.f_code.co_filename
        is_import = filename.startswith("<frozen importlib") or "importlib" in filename.split(os.sep)
        if not (is_import or filename.startswith(_OWN_CODE)):
            return each
        each = each.tb_next
    return None


def _place(frames: TracebackType) -> str:
    """File and line of the innermost frame outside clusterd and, if there is one, outside the standard library."""
    lines = [frame for frame in traceback.extract_tb(frames) if not frame.filename.startswith(_OWN_CODE)]
    last = next((frame for frame in reversed(lines) if not _is_standard(frame.filename)), lines[-1])
    return f"{last.filename}:{last.lineno}"


def _is_standard(filename: str) -> bool:
    is_installed = {"site-packages", "dist-packages"} & set(filename.split(os.sep))
    return filename.startswith("<frozen ") or (filename.startswith(_STANDARD_LIBRARY) and not is_installed)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether `function` is a coroutine function, or an object whose `__call__` is one. Does not call it."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is inspected
    )
