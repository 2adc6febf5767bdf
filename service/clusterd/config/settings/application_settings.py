"""The settings of the application: which one runs, how it is called, and in which environment."""

import re

from clusterd.config import marks
from clusterd.config.model import Interface, Preload
from clusterd.config.settings.kinds import Refusal, choice, either, text
from clusterd.config.settings.places import file_path
from clusterd.config.settings.setting import Applies, Setting, Shape

ENVIRONMENT_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
RESERVED_ENVIRONMENT = rf"{'|'.join(sorted(marks.ALL))}|NOTIFY_SOCKET|LISTEN_(PID|FDS|FDNAMES)|WATCHDOG_(PID|USEC)"

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_MODULE_NAME = r"[^\W\d][\w-]*(\.[^\W\d][\w-]*)*"
"""Python's import statement knows no hyphens, its import machinery does."""


def _check_application(written: str) -> None:
    if written.startswith("__main__:"):
        raise Refusal("workers import it: write the name of the file's module, as in myapp:app for myapp.py")
    if file := re.fullmatch(r"([\w./-]+)\.py(:.+)?", written):
        module = file[1].strip("./").replace("/", ".")
        raise Refusal(f"a module, not a file: write {module}{file[2] or ''}")


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


_APPLICATION = text(
    "module:attribute, module:factory() or module", rf"{_MODULE_NAME}(:{_DOTTED}(\(\))?)?", _check_application
)
_FUNCTION_OR_NULL = either(text("module:function", rf"{_MODULE_NAME}:{_DOTTED}"), "null")
_MODULE = text("a module", _MODULE_NAME, _check_module)
_ROOT_PATH = text('"", or a path that begins with / and does not end with it', r"(/[^\s?#/]+)*", _check_root_path)
_NEXT = Applies.NEXT_GENERATION

APPLICATION_SETTINGS = (
    Setting(
        "app",
        _APPLICATION,
        None,
        _NEXT,
        "The application: a callable. A name that ends with () is a function that returns the callable. In a module "
        "alone it is application, or else app.",
        instead="run",
    ),
    Setting(
        "run",
        _FUNCTION_OR_NULL,
        "null",
        _NEXT,
        "A function that every worker calls instead of serving an application: a plain function, which runs in a "
        "thread of its own, or an async function. A worker is ready when the function is called. The function must "
        "return when clusterd.worker.stop_event is set; if it returns earlier or raises an exception, the worker has "
        "failed. clusterd then listens only on metrics. Changing between app and run needs a restart.",
    ),
    Setting(
        "interface",
        choice(Interface),
        "auto",
        _NEXT,
        "How the application is called. auto inspects the application, without calling it.",
    ),
    Setting(
        "directory",
        file_path(),
        ".",
        _NEXT,
        "The working directory of the application, and the first entry of its sys.path. Each generation follows a "
        "symbolic link again, so a deploy can switch the link and reload.",
        metavar="PATH",
    ),
    Setting(
        "python",
        either(file_path(), "null"),
        "null",
        _NEXT,
        "The interpreter that runs the application, such as bin/python of a virtual environment. It needs Python 3.11 "
        "or newer and uvloop. Default: the interpreter that runs clusterd.",
        metavar="PATH",
    ),
    Setting(
        "environment",
        text("text", r"(?s:.*)"),
        "",
        _NEXT,
        "Environment variables for the application, in addition to those of clusterd. Values are taken as they are "
        "written: NO, 0660 and 1:30 stay text.",
        shape=Shape.NAMED,
        metavar="NAME=VALUE",
    ),
    Setting(
        "environment_file",
        either(file_path(), "null"),
        "null",
        _NEXT,
        "A file with environment variables for the application (a .env file), which each reload reads again: lines "
        "NAME=VALUE, with quotes, comments and export as Docker Compose knows them. environment takes precedence over "
        "it, and it takes precedence over the environment that clusterd was started with. PORT and WEB_CONCURRENCY in "
        "it are defaults of listen and workers. --env-file is the same flag. See docs/deploying.md.",
        metavar="PATH",
        alias="--env_file",
    ),
    Setting(
        "root_path",
        _ROOT_PATH,
        "",
        _NEXT,
        "The path under which the application is mounted: SCRIPT_NAME in WSGI, root_path in ASGI.",
    ),
    Setting(
        "preload",
        choice(Preload),
        "auto",
        _NEXT,
        "Whether the application is imported once and then forked. That shares memory, and a crashed worker is "
        "replaced within milliseconds. auto preloads unless the import leaves threads, sockets or other things that "
        "do not survive a fork; a thread that a library's own fork handlers begin anew does. true preloads in any case "
        "and only warns of them. false imports the application in each worker.",
    ),
    Setting(
        "worker_start",
        _FUNCTION_OR_NULL,
        "null",
        _NEXT,
        "A function that each worker calls after the fork and before it is ready. An exception makes the start of the "
        "worker fail.",
    ),
    Setting("worker_stop", _FUNCTION_OR_NULL, "null", _NEXT, "A function that each worker calls after it has drained."),
    Setting(
        "hooks",
        either(_MODULE, "null"),
        "null",
        _NEXT,
        "A module with event handlers for the workers and their messages (from clusterd import cluster, "
        '@cluster.on("exit")), which run in a process of their own. If the module cannot be imported or registers no '
        "handler, the start or the reload fails. See docs/hooks.md.",
        metavar="MODULE",
    ),
)
