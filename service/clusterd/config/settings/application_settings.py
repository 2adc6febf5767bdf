"""The settings that say which application runs, and how."""

import re

from clusterd.config.model import Interface, Preload
from clusterd.config.settings.kinds import Refusal, choice, either, text
from clusterd.config.settings.places import file_path
from clusterd.config.settings.setting import Applies, Setting, Shape

ENVIRONMENT_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
RESERVED_ENVIRONMENT = r"CLUSTERD_(WORKER|GENERATION)|NOTIFY_SOCKET|LISTEN_(PID|FDS|FDNAMES)|WATCHDOG_(PID|USEC)"

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def _check_application(written: str) -> None:
    if written.startswith("__main__:"):
        raise Refusal("workers import it: write the name of the file's module, as in myapp:app for myapp.py")
    if file := re.fullmatch(r"([\w./-]+)\.py(:.+)?", written):
        module = file[1].strip("./").replace("/", ".")
        raise Refusal(f"a module, not a file: write {module}{file[2] or ':app'}")
    if re.fullmatch(_DOTTED, written):
        raise Refusal(f"the attribute is missing: write {written}:app")


def _check_module(written: str) -> None:
    if ":" in written:
        raise Refusal(f"a module, and nothing in it: write {written.partition(':')[0]}")
    if written.endswith(".py"):
        raise Refusal(f"a module, not a file: write {written.removesuffix('.py').strip('./').replace('/', '.')}")


def _check_root_path(written: str) -> None:
    if written == "/":
        raise Refusal('write "" for an application at the root')
    if written and not written.startswith("/"):
        raise Refusal(f"write /{written.rstrip('/')}")
    if written.endswith("/"):
        raise Refusal(f"write {written.rstrip('/')}")


_APPLICATION = text("module:attribute or module:factory()", rf"{_DOTTED}:{_DOTTED}(\(\))?", _check_application)
_FUNCTION_OR_NULL = either(text("module:function", rf"{_DOTTED}:{_DOTTED}"), "null")
_MODULE = text("a module", _DOTTED, _check_module)
_ROOT_PATH = text('"", or a path that begins with / and does not end with it', r"(/[^\s?#/]+)*", _check_root_path)
_NEXT = Applies.NEXT_GENERATION

APPLICATION_SETTINGS = (
    Setting(
        "app",
        _APPLICATION,
        None,
        _NEXT,
        "The application: a callable, or a function that returns one when it ends with ().",
        instead="run",
    ),
    Setting(
        "run",
        _FUNCTION_OR_NULL,
        "null",
        _NEXT,
        "A function that every worker calls in place of serving an application: plain, in a thread of its own, or "
        "async. A worker is ready when the function is called. It is to return when clusterd.worker.stop_event is set; "
        "earlier, or with an exception, is a failure. Nothing is listened on then, save for metrics. Changing between "
        "app and run needs a restart.",
    ),
    Setting(
        "interface",
        choice(Interface),
        "auto",
        _NEXT,
        "How the application is called; auto finds out by looking at it, without calling it.",
    ),
    Setting(
        "directory",
        file_path(),
        ".",
        _NEXT,
        "Working directory of the application, and first on its sys.path. A symbolic link is followed anew by each "
        "generation, so a deploy may switch it and reload.",
        metavar="PATH",
    ),
    Setting(
        "python",
        either(file_path(), "null"),
        "null",
        _NEXT,
        "The interpreter that runs the application, such as a virtual environment's bin/python. It needs Python 3.11 "
        "or newer and uvloop. Default: the one that runs clusterd.",
        metavar="PATH",
    ),
    Setting(
        "environment",
        text("text", r"(?s:.*)"),
        "",
        _NEXT,
        "Environment variables for the application, besides those clusterd was started with. Values are taken as "
        "they are written: NO, 0660 and 1:30 stay text.",
        shape=Shape.NAMED,
        metavar="NAME=VALUE",
    ),
    Setting(
        "root_path",
        _ROOT_PATH,
        "",
        _NEXT,
        "Where the application is mounted: SCRIPT_NAME in WSGI, root_path in ASGI.",
    ),
    Setting(
        "preload",
        choice(Preload),
        "auto",
        _NEXT,
        "Whether the application is imported once and then forked, which shares memory and makes a crashed worker's "
        "replacement a matter of milliseconds. auto does so unless the import leaves threads, sockets or other things "
        "behind that do not survive a fork; true only warns of them; false imports it in each worker.",
    ),
    Setting(
        "worker_start",
        _FUNCTION_OR_NULL,
        "null",
        _NEXT,
        "Called in each worker after the fork and before it is ready; an exception is a failed boot.",
    ),
    Setting("worker_stop", _FUNCTION_OR_NULL, "null", _NEXT, "Called in each worker after it has drained."),
    Setting(
        "hooks",
        either(_MODULE, "null"),
        "null",
        _NEXT,
        "A module with handlers for what becomes of the workers and for what they say (from clusterd import cluster, "
        '@cluster.on("exit")), which run in a process of their own. Where it cannot be imported, or registers none, '
        "the start or the reload fails. See docs/hooks.md.",
        metavar="MODULE",
    ),
)
