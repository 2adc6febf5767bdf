"""The settings that limit clients and the application, and those of logging and debugging."""

import ipaddress

from clusterd.config.model import AccessLog, LogFormat, LogLevel, LogTargets
from clusterd.config.settings.access_format import FIELDS, FORMATS, MalformedFormat, parse_format
from clusterd.config.settings.kinds import Refusal, choice, duration, either, size, text, whole_number
from clusterd.config.settings.setting import Applies, Setting

_LIVE, _NEXT = Applies.LIVE, Applies.NEXT_GENERATION
_HIGHEST_DEBUG_PORT = 65535 - 1024
"""The highest base port: every one of the 1024 possible slots has a port above it."""


def _check_host(written: str) -> None:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        raise Refusal("names are not looked up: write the address") from None


def _check_format(written: str) -> None:
    try:
        parse_format(written)
    except MalformedFormat as error:
        raise Refusal(str(error)) from None


SERVING_SETTINGS = (
    Setting(
        "timeouts.announce",
        duration("0s", "1h"),
        "0s",
        _NEXT,
        "How long clusterd goes on as before when it is to stop or is drained (clusterctl drain), while /readyz "
        "answers 503 and the agent says drain. Only then are connections drained. With load balancers in front, set "
        "it to the time that they need to notice: docs/many-hosts.md.",
    ),
    Setting(
        "timeouts.drain",
        duration("100ms", "24h"),
        "30s",
        _NEXT,
        "How long a worker may take to finish its requests, in a rollout and at a stop. Requests that are left then "
        "are cut, and each is logged.",
    ),
    Setting(
        "timeouts.drain_idle",
        duration("0s", "24h"),
        "10s",
        _NEXT,
        "How long idle connections may stay open after the last response when clusterd stops. At most timeouts.drain.",
    ),
    Setting(
        "timeouts.hang",
        duration("500ms", "24h"),
        "30s",
        _NEXT,
        "A worker whose event loop, or all of whose threads, make no progress for this long is killed and replaced. "
        "After half of this time its stacks are logged. The requests that it has in hand are lost; its other "
        "connections are given to other workers first, but for those over HTTPS and behind the PROXY protocol.",
    ),
    Setting(
        "timeouts.unready",
        duration("500ms", "24h"),
        "10s",
        _NEXT,
        "/readyz answers 503, so that a proxy uses another host, when for this long every thread of every worker has "
        "been stuck while requests wait, or the queue of every worker has been full (limits.queue). It also answers "
        "503 when no worker's event loop has turned for two seconds.",
    ),
    Setting(
        "timeouts.stall",
        either(duration("100ms", "1h"), "off"),
        "1s",
        _NEXT,
        "A worker whose event loop does not turn for this long is named in the log, once, with the stack of the loop's "
        "thread and the requests that the worker handles. Nothing else is done before timeouts.hang.",
    ),
    Setting(
        "timeouts.queue",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "How long a request may wait for a thread. After that it is answered with 503.",
    ),
    Setting(
        "timeouts.request",
        either(duration("100ms", "24h"), "off"),
        "off",
        _NEXT,
        "The time limit from the end of a request's head to the end of its response. After that the client gets 504. "
        "An ASGI call is cancelled. A thread cannot be cancelled, so its stack is logged and its worker is replaced, "
        "with the successor started first.",
    ),
    Setting(
        "timeouts.keepalive",
        duration("100ms", "24h"),
        "75s",
        _NEXT,
        "How long a connection, also a new one, may stay open without the first byte of a request.",
    ),
    Setting(
        "timeouts.header",
        duration("100ms", "1h"),
        "10s",
        _NEXT,
        "The time limit from the first byte of a request to the end of its head. After that it is answered with 408.",
    ),
    Setting(
        "timeouts.body",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "How long the client may send no byte of the request's body. After that it gets 408.",
    ),
    Setting(
        "timeouts.write",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "How long the client may read no byte of the response. After that the connection is closed.",
    ),
    Setting(
        "limits.connections",
        whole_number(1, 1_000_000),
        "10000",
        _NEXT,
        "How many connections a worker may hold. A worker at its limit leaves new connections to the others. When all "
        "workers are at their limit, clusterd answers 503 and logs a warning.",
    ),
    Setting(
        "limits.queue",
        whole_number(0, 1_000_000),
        "100",
        _NEXT,
        "How many requests of a worker may wait for a thread. Further requests are answered with 503.",
    ),
    Setting(
        "limits.request_line", size("64", "64K"), "8K", _NEXT, "The size of the first line of a request; above it, 414."
    ),
    Setting("limits.headers", size("256", "1M"), "32K", _NEXT, "The size of all headers of a request; above it, 431."),
    Setting(
        "limits.header_count",
        whole_number(1, 10_000),
        "100",
        _NEXT,
        "The number of headers of a request; above it, 431.",
    ),
    Setting(
        "limits.body",
        size("0", "1T"),
        "16M",
        _NEXT,
        "The size of the body of a request; above it, 413. Also the size of a WebSocket message; above it, 1009.",
    ),
    Setting(
        "limits.websocket_memory",
        size("64K", "1T"),
        "128M",
        _NEXT,
        "The size of all WebSocket messages in a worker that are not complete, or that the application has not "
        "received. A WebSocket whose message would exceed it is closed with 1013.",
    ),
    Setting(
        "limits.max_requests",
        whole_number(0, 1_000_000_000),
        "0",
        _NEXT,
        "How many requests a worker serves before it is replaced, with the successor started first. Each worker serves "
        "up to a tenth more, so that workers of the same age are not replaced together. 0 means no limit.",
    ),
    Setting(
        "limits.max_memory",
        size("16M", "1T", "no limit"),
        "0",
        _NEXT,
        "The private memory of a worker above which it is replaced, with the successor started first.",
    ),
    Setting(
        "log.level",
        choice(LogLevel),
        "info",
        _LIVE,
        "The least severe level that is logged. A reload applies a changed level in the workers that it starts, and "
        "everywhere else when it has succeeded.",
    ),
    Setting(
        "log.format",
        choice(LogFormat),
        "text",
        _NEXT,
        "The format of the log on stderr: text, or json with one object a line (docs/logging.md). In the journal every "
        "record has fields, whatever this says.",
    ),
    Setting(
        "log.repeats",
        whole_number(0, 1_000_000),
        "20",
        _NEXT,
        "How many equal records a process writes in a second. The others are left out, and their number is logged. "
        "Records are equal if their message and level are. 0 means no limit. It does not apply to log.access: all.",
    ),
    Setting(
        "log.access",
        choice(AccessLog),
        "errors",
        _LIVE,
        "Which requests are logged: off, errors (status 500 and above, and requests that clusterd refuses), slow "
        "(those, and requests that take log.slow or longer, by default a second) or all. A status of 500 or above is "
        "logged as error, everything else as info. clusterctl log access changes it in the running workers.",
    ),
    Setting(
        "log.access_format",
        text(f"one of {', '.join(FORMATS)}, or a text with fields like {{method}}", r"[ -~]{1,1000}", _check_format),
        "fields",
        _NEXT,
        "How a request is logged: fields (a record like all others), common or combined (as by Apache and nginx), json "
        f"(one object a line), or a text with these fields in braces: {', '.join(FIELDS)}.",
        metavar="FORMAT",
    ),
    Setting(
        "log.slow",
        either(duration("100ms", "24h"), "off"),
        "off",
        _NEXT,
        "A request that takes this long is logged while it runs, with the stack of its thread, greenlet or task, and "
        "again at its end with the time that it has waited for a thread, for the application and for its client. A "
        "response that is sent bit by bit for ever, such as server-sent events, is slow as well. If it is off, "
        "log.access: slow takes a second for slow.",
    ),
    Setting(
        "log.targets",
        choice(LogTargets),
        "path",
        _NEXT,
        "What is recorded of the targets of the requests that a worker handles, which are logged when it dies or is "
        "stuck: path (without the query, which may contain secrets) or full.",
    ),
    Setting(
        "debug.port",
        either(whole_number(1024, _HIGHEST_DEBUG_PORT), "off"),
        "off",
        _NEXT,
        "The base port. The worker of slot 1 uses the next port, that of slot 2 the one after it, and so on. No worker "
        "listens until clusterctl debug asks for it.",
    ),
    Setting(
        "debug.host",
        text("an IP address", r"[0-9A-Fa-f:.]+", _check_host),
        "127.0.0.1",
        _NEXT,
        "The address that debuggers connect to. From another machine, use a tunnel (ssh -L) rather than an address "
        "that others can reach.",
    ),
)
