"""The settings that bound what clients and the application may take, and what is logged of them."""

import ipaddress

from clusterd.config.model import AccessLog, LogLevel
from clusterd.config.settings.kinds import Refusal, choice, duration, either, size, text, whole_number
from clusterd.config.settings.setting import Applies, Setting

_LIVE, _NEXT = Applies.LIVE, Applies.NEXT_GENERATION
_HIGHEST_DEBUG_PORT = 65535 - 1024
"""Each of the most slots that there can be has a port above it."""


def _check_host(written: str) -> None:
    try:
        ipaddress.ip_address(written)
    except ValueError:
        raise Refusal("names are not looked up: write the address") from None


SERVING_SETTINGS = (
    Setting(
        "timeouts.drain",
        duration("100ms", "24h"),
        "30s",
        _NEXT,
        "For a worker to finish what it holds, on a rollout and on a stop. What is left then is cut, and logged so.",
    ),
    Setting(
        "timeouts.drain_idle",
        duration("0s", "24h"),
        "10s",
        _NEXT,
        "On a stop: how long idle connections may stay open after the last response. At most timeouts.drain.",
    ),
    Setting(
        "timeouts.hang",
        duration("500ms", "24h"),
        "30s",
        _NEXT,
        "A worker whose event loop, or all of whose threads, made no progress for so long is killed and replaced; its "
        "stacks are logged at half of it.",
    ),
    Setting(
        "timeouts.unready",
        duration("500ms", "24h"),
        "10s",
        _NEXT,
        "/readyz answers 503 when every thread of every worker has been stuck for so long while requests wait, or the "
        "queue of every worker has been full for so long (limits.queue), so that a proxy asks another host. When no "
        "worker's event loop has turned for two seconds, it does so in any case.",
    ),
    Setting(
        "timeouts.queue",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "For a request to wait for a thread; then it is answered 503.",
    ),
    Setting(
        "timeouts.request",
        either(duration("100ms", "24h"), "off"),
        "off",
        _NEXT,
        "From the end of a request's head to the end of its response: past it the client is answered 504. An ASGI call "
        "is cancelled; a thread cannot be, so its stack is logged and its worker replaced, successor first.",
    ),
    Setting(
        "timeouts.keepalive",
        duration("100ms", "24h"),
        "75s",
        _NEXT,
        "For the first byte of a request, on a new connection too.",
    ),
    Setting(
        "timeouts.header",
        duration("100ms", "1h"),
        "10s",
        _NEXT,
        "From the first byte of a request to the end of its head; then 408.",
    ),
    Setting(
        "timeouts.body",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "Without one byte of the request's body; then 408.",
    ),
    Setting(
        "timeouts.write",
        duration("100ms", "1h"),
        "30s",
        _NEXT,
        "Without the client reading one byte of the response; then the connection is closed.",
    ),
    Setting(
        "limits.connections",
        whole_number(1, 1_000_000),
        "10000",
        _NEXT,
        "Connections a worker holds; beyond it others accept, and when all are full, 503 tells clients to come back, "
        "and a warning the operator.",
    ),
    Setting(
        "limits.queue",
        whole_number(0, 1_000_000),
        "100",
        _NEXT,
        "Requests of a worker that wait for a thread; one more is answered 503.",
    ),
    Setting("limits.request_line", size("64", "64K"), "8K", _NEXT, "The first line of a request; then 414."),
    Setting("limits.headers", size("256", "1M"), "32K", _NEXT, "All headers of a request together; then 431."),
    Setting("limits.header_count", whole_number(1, 10_000), "100", _NEXT, "Headers of a request; then 431."),
    Setting(
        "limits.body", size("0", "1T"), "16M", _NEXT, "The body of a request; then 413. A WebSocket message; then 1009."
    ),
    Setting(
        "limits.max_requests",
        whole_number(0, 1_000_000_000),
        "0",
        _NEXT,
        "Requests (and up to a tenth more, so that workers of one age do not go together) after which a worker is "
        "replaced, successor first; 0 for no limit.",
    ),
    Setting(
        "limits.max_memory",
        size("16M", "1T", "no limit"),
        "0",
        _NEXT,
        "Private memory above which a worker is replaced, successor first.",
    ),
    Setting(
        "log.level",
        choice(LogLevel),
        "info",
        _LIVE,
        "The least severe record that is written. A changed one takes effect in the workers that a reload starts, and "
        "everywhere else when the reload has succeeded.",
    ),
    Setting(
        "log.access",
        choice(AccessLog),
        "errors",
        _NEXT,
        "Which requests are logged, as info (so log.level must be info or debug): off, errors (status 500 and above) "
        "or all.",
    ),
    Setting(
        "debug.port",
        either(whole_number(1024, _HIGHEST_DEBUG_PORT), "off"),
        "off",
        _NEXT,
        "The worker of slot 1 has the port after this one, that of slot 2 the next, and so on. Nothing listens before "
        "it is asked for.",
    ),
    Setting(
        "debug.host",
        text("an IP address", r"[0-9A-Fa-f:.]+", _check_host),
        "127.0.0.1",
        _NEXT,
        "The address they listen on. From elsewhere rather take a tunnel (ssh -L) than an address that others reach.",
    ),
)
