"""Every setting, once: its key, kind, range, default, when a change takes effect, and what it is for.

Validation, defaults, flags, the JSON Schema and docs/settings.md are all made from this table.
"""

import re
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from http import HTTPStatus

from clusterd.config.kinds import (
    Choice,
    Duration,
    FilePath,
    Kind,
    ListenAddress,
    Or,
    Refusal,
    Size,
    Text,
    WholeNumber,
)
from clusterd.config.model import AccessLog, Interface, LogLevel, Preload, Scheduling


class Applies(StrEnum):
    """When a changed setting takes effect."""

    LIVE = "live"
    """At the reload, for what runs already too."""
    NEXT_GENERATION = "next generation"
    """At the reload, in the workers that it starts."""
    RESTART = "restart"
    """When clusterd is started again."""


class Shape(Enum):
    """How many values a setting has."""

    ONE = "one"
    LIST = "list"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is written as in a file; None means that it has to be given."""

    key: str
    kind: Kind
    default: str | None
    applies: Applies
    help: str
    shape: Shape = Shape.ONE
    metavar: str = "VALUE"
    flag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flag", "APP" if self.key == "app" else f"--{self.key}")


OPTIONAL_SECTIONS = ("rollout.health_check",)
"""Sections that may be null, and are until one of their settings is given."""

SECTIONS = {
    "rollout": "How a reload replaces the workers: slot by slot, each successor ready before its predecessor drains.",
    "rollout.health_check": "A request that each new worker must answer before it counts as ready; null for none.",
    "timeouts": "How long things may take.",
    "limits": "How much there may be.",
    "log": "What is logged: to the journal when connected to it, otherwise to standard error.",
}

ENVIRONMENT_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
RESERVED_ENVIRONMENT = r"CLUSTERD_(WORKER|GENERATION)|NOTIFY_SOCKET|LISTEN_(PID|FDS|FDNAMES)|WATCHDOG_(PID|USEC)"

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_NOT_YET = "not supported by this version of clusterd yet"


def _check_application(text: str) -> None:
    if re.fullmatch(r"[\w./-]+\.py", text):
        raise Refusal(f"a module, not a file: write {text.removesuffix('.py').strip('./').replace('/', '.')}:app")
    if re.fullmatch(_DOTTED, text):
        raise Refusal(f"the attribute is missing: write {text}:app")


def _check_root_path(text: str) -> None:
    if text == "/":
        raise Refusal('write "" for an application at the root')
    if text and not text.startswith("/"):
        raise Refusal(f"write /{text.rstrip('/')}")
    if text.endswith("/"):
        raise Refusal(f"write {text.rstrip('/')}")


def _check_expect(text: str) -> None:
    if text.isdigit() and len(text) == 3 and text not in {str(status.value) for status in HTTPStatus}:
        raise Refusal("HTTP has no such status")


_APPLICATION = Text("module:attribute or module:factory()", rf"{_DOTTED}:{_DOTTED}(\(\))?", _check_application)
_HOOK = Or(Text("module:function", rf"{_DOTTED}:{_DOTTED}"), "null")
_ROOT_PATH = Text("a path that begins with / and does not end with it", r"(/[^\s?#/]+)*", _check_root_path)
_LIVE, _NEXT, _RESTART = Applies.LIVE, Applies.NEXT_GENERATION, Applies.RESTART

SETTINGS = (
    Setting(
        "app",
        _APPLICATION,
        None,
        _NEXT,
        "The application: a callable, or a function that returns one when it ends with ().",
    ),
    Setting(
        "interface",
        Choice(Interface, {"asgi": _NOT_YET}),
        "auto",
        _NEXT,
        "How the application is called; auto finds out by looking at it, without calling it.",
    ),
    Setting(
        "directory",
        FilePath(),
        ".",
        _NEXT,
        "Working directory of the application, and first on its sys.path. A symbolic link is followed anew by each "
        "generation, so a deploy may switch it and reload.",
        metavar="PATH",
    ),
    Setting(
        "python",
        FilePath(),
        "",
        _NEXT,
        "The interpreter that runs the application, such as a virtual environment's bin/python. It needs Python 3.11 "
        "or newer and uvloop. Default: the one that runs clusterd.",
        metavar="PATH",
    ),
    Setting(
        "environment",
        Text("text", r"(?s:.*)"),
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
        "Where the application is mounted: SCRIPT_NAME in WSGI.",
    ),
    Setting(
        "preload",
        Choice(Preload, {}),
        "auto",
        _NEXT,
        "Whether the application is imported once and then forked, which shares memory and makes a crashed worker's "
        "replacement a matter of milliseconds. auto does so unless the import leaves threads, sockets or other things "
        "behind that do not survive a fork; true only warns of them; false imports it in each worker.",
    ),
    Setting(
        "worker_start",
        _HOOK,
        "null",
        _NEXT,
        "Called in each worker after the fork and before it is ready; an exception is a failed boot.",
    ),
    Setting("worker_stop", _HOOK, "null", _NEXT, "Called in each worker after it has drained."),
    Setting(
        "listen",
        ListenAddress(),
        "127.0.0.1:8000",
        _RESTART,
        "Addresses to serve HTTP on, unless systemd passes sockets named http.",
        shape=Shape.LIST,
        metavar="ADDRESS",
    ),
    Setting(
        "metrics",
        Or(ListenAddress(), "off"),
        "127.0.0.1:8001",
        _RESTART,
        "Address of /metrics, /healthz and /readyz, unless systemd passes a socket named metrics. Keep it private.",
        metavar="ADDRESS",
    ),
    Setting(
        "control",
        Or(FilePath(), "null"),
        "null",
        _RESTART,
        "The control socket that clusterctl talks to. Default: $RUNTIME_DIRECTORY/control.sock, else "
        "$XDG_RUNTIME_DIR/clusterd/control.sock, else /tmp/clusterd-UID/control.sock.",
        metavar="PATH",
    ),
    Setting(
        "workers",
        Or(WholeNumber(1, 1024), "auto"),
        "auto",
        _NEXT,
        "Worker processes. auto is one for each CPU that CPU affinity and the cgroup's quota leave to clusterd.",
    ),
    Setting(
        "threads",
        WholeNumber(0, 1024),
        "4",
        _NEXT,
        "Threads per worker that call a WSGI application. 0 calls it on the event loop: fastest for applications that "
        "never wait, and one request at a time.",
    ),
    Setting(
        "scheduling",
        Choice(Scheduling, {"round_robin": _NOT_YET}),
        "least_connections",
        _NEXT,
        "Which worker takes a new connection: the one with the fewest, or shared for whichever the kernel wakes.",
    ),
    Setting(
        "rollout.surge",
        WholeNumber(1, 1024),
        "1",
        _NEXT,
        "Workers that are replaced at the same time.",
    ),
    Setting(
        "rollout.boot_timeout",
        Duration("100ms", "1h"),
        "60s",
        _NEXT,
        "For the application's import, and again for a worker to become ready. Past it the reload is withdrawn.",
    ),
    Setting(
        "rollout.settle",
        Duration("0s", "10m"),
        "1s",
        _NEXT,
        "How long the first new worker must live before the others are replaced.",
    ),
    Setting(
        "rollout.max_draining",
        WholeNumber(1, 64),
        "4",
        _NEXT,
        "Generations that may be draining at once; beyond it the oldest is ended.",
    ),
    Setting(
        "rollout.health_check.path",
        Text("a path that begins with /", r"/[!-~]*"),
        None,
        _NEXT,
        "What is requested with GET.",
    ),
    Setting(
        "rollout.health_check.host",
        Text("a host name, with or without a port", r"[A-Za-z0-9._\-\[\]:]{1,255}"),
        "localhost",
        _NEXT,
        "The Host header. Frameworks that check it refuse names they do not know.",
    ),
    Setting(
        "rollout.health_check.expect",
        Text("a status like 204, or a class of them like 2xx", r"[1-5]xx|[1-5][0-9][0-9]", _check_expect),
        "2xx",
        _NEXT,
        "The status that passes.",
    ),
    Setting(
        "rollout.health_check.timeout",
        Duration("100ms", "1h"),
        "5s",
        _NEXT,
        "For the whole response. At most rollout.boot_timeout, which goes on running.",
    ),
    Setting(
        "timeouts.drain",
        Duration("100ms", "24h"),
        "30s",
        _NEXT,
        "For a worker to finish what it holds, on a rollout and on a stop. What is left then is cut and logged.",
    ),
    Setting(
        "timeouts.drain_idle",
        Duration("0s", "24h"),
        "10s",
        _NEXT,
        "On a stop: how long idle connections may stay open after the last response. At most timeouts.drain.",
    ),
    Setting(
        "timeouts.hang",
        Duration("500ms", "24h"),
        "30s",
        _NEXT,
        "A worker whose event loop, or all of whose threads, made no progress for so long is killed and replaced; its "
        "stacks are logged at half of it.",
    ),
    Setting(
        "timeouts.queue",
        Duration("100ms", "1h"),
        "30s",
        _NEXT,
        "For a request to wait for a thread; then it is answered 503.",
    ),
    Setting(
        "timeouts.request",
        Or(Duration("100ms", "24h"), "off"),
        "off",
        _NEXT,
        "From the end of a request's head to the end of its response: past it the client is answered 504.",
    ),
    Setting(
        "timeouts.keepalive",
        Duration("100ms", "24h"),
        "75s",
        _NEXT,
        "For the first byte of a request, on a new connection too.",
    ),
    Setting(
        "timeouts.header",
        Duration("100ms", "1h"),
        "10s",
        _NEXT,
        "From the first byte of a request to the end of its head; then 408.",
    ),
    Setting(
        "timeouts.body",
        Duration("100ms", "1h"),
        "30s",
        _NEXT,
        "Without one byte of the request's body; then 408.",
    ),
    Setting(
        "timeouts.write",
        Duration("100ms", "1h"),
        "30s",
        _NEXT,
        "Without the client reading one byte of the response; then the connection is closed.",
    ),
    Setting(
        "limits.connections",
        WholeNumber(1, 1_000_000),
        "10000",
        _NEXT,
        "Connections a worker holds; beyond it others accept, or the kernel's queue holds them.",
    ),
    Setting(
        "limits.queue",
        WholeNumber(0, 1_000_000),
        "100",
        _NEXT,
        "Requests of a worker that wait for a thread; one more is answered 503.",
    ),
    Setting("limits.request_line", Size("64", "64K"), "8K", _NEXT, "The first line of a request; then 414."),
    Setting("limits.headers", Size("256", "1M"), "32K", _NEXT, "All headers of a request together; then 431."),
    Setting("limits.header_count", WholeNumber(1, 10_000), "100", _NEXT, "Headers of a request; then 431."),
    Setting("limits.body", Size("0", "1T"), "16M", _NEXT, "The body of a request; then 413."),
    Setting(
        "limits.max_requests",
        WholeNumber(0, 1_000_000_000),
        "0",
        _NEXT,
        "Requests (and up to a tenth more, so that workers of one age do not go together) after which a worker is "
        "replaced, successor first; 0 for no limit.",
    ),
    Setting(
        "limits.max_memory",
        Size("16M", "1T", "no limit"),
        "0",
        _NEXT,
        "Private memory above which a worker is replaced, successor first.",
    ),
    Setting(
        "log.level",
        Choice(LogLevel, {}),
        "info",
        _LIVE,
        "The least severe record that is written.",
    ),
    Setting(
        "log.access",
        Choice(AccessLog, {}),
        "errors",
        _NEXT,
        "Which requests are logged: off, errors (status 500 and above) or all.",
    ),
)

BY_KEY = {setting.key: setting for setting in SETTINGS}
