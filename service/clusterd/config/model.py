"""The configuration as the rest of clusterd uses it: checked, frozen, in seconds and bytes.

This module uses only the standard library, because it is also imported by the template and the workers, which run in
the application's own interpreter. The meaning, the default and the range of a setting are defined in
`config.settings`. Nothing here has a default, so that every default has one place.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from clusterd.config.address import Address, TcpAddress, UnixAddress
from clusterd.config.limits import Limits, Timeouts
from clusterd.records import dataclass

__all__ = [
    "JSON",
    "AccessLog",
    "Address",
    "Config",
    "Debug",
    "HealthCheck",
    "Interface",
    "Limits",
    "Log",
    "LogFormat",
    "LogLevel",
    "LogTargets",
    "Metrics",
    "Preload",
    "RequestIds",
    "Restarts",
    "Rollout",
    "Scheduling",
    "Switch",
    "TcpAddress",
    "Timeouts",
    "Tls",
    "TlsVersion",
    "Underscores",
    "UnixAddress",
    "UnixSockets",
    "WorkerRange",
    "from_json",
    "to_json",
]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Interface(StrEnum):
    """How the application is called."""

    AUTO = "auto"
    WSGI = "wsgi"
    ASGI = "asgi"


class Preload(StrEnum):
    """Whether the template imports the application, for its workers to share."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


class Scheduling(StrEnum):
    """How new connections are distributed over the workers."""

    LEAST_CONNECTIONS = "least_connections"
    ROUND_ROBIN = "round_robin"
    SHARED = "shared"


class Switch(StrEnum):
    """A feature that is on or off. In YAML 1.2, and so everywhere in the file, `on` and `off` are text."""

    OFF = "off"
    ON = "on"


class Underscores(StrEnum):
    """What happens to a request's header fields that have an underscore in their names."""

    DROP = "drop"
    PASS = "pass"
    REFUSE = "refuse"


class TlsVersion(StrEnum):
    """The oldest version of TLS that clusterd accepts."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class AccessLog(StrEnum):
    """Which requests are logged."""

    OFF = "off"
    ERRORS = "errors"
    """Responses with a status of 500 or above, and requests that clusterd has refused. A 4xx of the application is not
    an error of this service."""
    SLOW = "slow"
    """Those, and requests that took `Log.slow` or longer."""
    ALL = "all"


class LogFormat(StrEnum):
    """The format of the log on stderr. The journal has fields of its own."""

    TEXT = "text"
    JSON = "json"


class RequestIds(StrEnum):
    """Whether requests have identifiers."""

    OFF = "off"
    ON = "on"
    RETURN = "return"
    """The response has it too, as X-Request-Id."""


class LogTargets(StrEnum):
    """How much of a request's target is recorded and logged while the request is in hand."""

    PATH = "path"
    """Without the query, which may hold what is secret."""
    FULL = "full"


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A request that a new worker must answer before its predecessor drains. `timeout` is in seconds."""

    path: str
    host: str
    expect: str
    timeout: float
    headers: tuple[str, ...] = ()
    """Further headers of the request, each as `Name: value`."""

    def accepts(self, status: int) -> bool:
        """Return whether a response with this status passes. `expect` is a status (`204`) or a class (`2xx`)."""
        return str(status) == self.expect or f"{status // 100}xx" == self.expect


@dataclass(frozen=True, slots=True)
class Rollout:
    """How one generation replaces another. Times are in seconds."""

    surge: int
    boot_timeout: float
    settle: float
    max_draining: int
    health_check: HealthCheck | None


@dataclass(frozen=True, slots=True)
class WorkerRange:
    """clusterd decides how many workers there are."""

    min: int
    max: int | None
    """None for as many as `config.cpus` counts, but at least `min`."""
    shrink_after: float
    """How long fewer workers have to be enough before some are ended, in seconds."""


@dataclass(frozen=True, slots=True)
class Restarts:
    """The limit of restarts of workers that had been ready: `burst` at once in `per` seconds, for all slots."""

    burst: int
    per: float


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged, and how.

    `repeats` is the most equal records of a second, or 0. `slow` is in seconds, or None. `access_format` is a name or a
    format string (config/settings/access_format.py).
    """

    level: LogLevel
    format: LogFormat
    repeats: int
    access: AccessLog
    access_format: str
    slow: float | None
    targets: LogTargets


@dataclass(frozen=True, slots=True)
class Debug:
    """The address for debuggers: port `port` + slot of `host`. Debuggers cannot attach if `port` is None."""

    port: int | None
    host: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """Where metrics are served, and which of the application's own: at most `series` of each worker."""

    address: Address | None
    application: Switch
    series: int


@dataclass(frozen=True, slots=True)
class Tls:
    """HTTPS. Certificate and key are paths or `credential:NAME`. `key` is None if one file contains both."""

    listen: tuple[Address, ...]
    certificate: str | None
    key: str | None
    minimum_version: TlsVersion


@dataclass(frozen=True, slots=True)
class UnixSockets:
    """The permissions of the Unix sockets that clusterd itself binds. None means the user or group clusterd runs as."""

    mode: int
    owner: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Paths are absolute, with their symbolic links unresolved: each generation resolves `directory` when it starts.
    Either `app` (`module:attribute` or `module:factory()`) or `run` (`module:function`) is None.
    `metrics.address` and `agent` are None if there is no such endpoint. `control` is None for the default path
    (`config.paths`).
    `workers` is a fixed number, None for the number that `config.cpus` counts, or the range in which clusterd decides.
    `environment` contains the variables of `environment_file` too.
    `trusted_proxies` contains addresses, networks and `unix`, as texts.
    """

    app: str | None
    run: str | None
    interface: Interface
    directory: str
    python: str
    environment: Mapping[str, str]
    environment_file: str | None
    root_path: str
    preload: Preload
    worker_start: str | None
    worker_stop: str | None
    hooks: str | None
    listen: tuple[Address, ...]
    tls: Tls
    unix_sockets: UnixSockets
    trusted_proxies: tuple[str, ...]
    proxy_protocol: Switch
    server_header: Switch
    underscores: Underscores
    request_ids: RequestIds
    metrics: Metrics
    agent: Address | None
    control: str | None
    workers: int | WorkerRange | None
    threads: int
    greenlets: int
    scheduling: Scheduling
    rollout: Rollout
    restarts: Restarts
    timeouts: Timeouts
    limits: Limits
    log: Log
    debug: Debug


def to_json(config: Config) -> dict[str, JSON]:
    """Return a document that `from_json` turns into the same configuration, except for the environment.

    The environment may be larger than a packet of the channel, so a generation gets it by exec.
    """
    document = {field.name: _plain(getattr(config, field.name)) for field in fields(config)}
    del document["environment"]
    return document


def from_json(document: Mapping[str, Any], environment: Mapping[str, str] = _NOTHING) -> Config:
    """Return the configuration that `to_json` wrote in another process of the same version of clusterd.

    Raises TypeError, KeyError or ValueError for any other document. That is a defect of clusterd, not an error of the
    operator.
    """
    rollout, check = document["rollout"], document["rollout"]["health_check"]
    tls = document["tls"]
    converted = {
        "interface": Interface(document["interface"]),
        "environment": MappingProxyType(dict(environment)),
        "preload": Preload(document["preload"]),
        "listen": _addresses(document["listen"]),
        "tls": Tls(_addresses(tls["listen"]), tls["certificate"], tls["key"], TlsVersion(tls["minimum_version"])),
        "unix_sockets": UnixSockets(**document["unix_sockets"]),
        "trusted_proxies": tuple(document["trusted_proxies"]),
        "proxy_protocol": Switch(document["proxy_protocol"]),
        "server_header": Switch(document["server_header"]),
        "underscores": Underscores(document["underscores"]),
        "metrics": _metrics(document["metrics"]),
        "agent": None if document["agent"] is None else Address.parse(document["agent"]),
        "workers": _workers(document["workers"]),
        "scheduling": Scheduling(document["scheduling"]),
        "rollout": Rollout(**{**rollout, "health_check": None if check is None else _health_check(check)}),
        "restarts": Restarts(**document["restarts"]),
        "timeouts": Timeouts(**document["timeouts"]),
        "limits": Limits(**document["limits"]),
        "request_ids": RequestIds(document["request_ids"]),
        "log": _log(document["log"]),
        "debug": Debug(**document["debug"]),
    }
    return Config(**{**document, **converted})


def _log(document: Mapping[str, Any]) -> Log:
    named = {
        "level": LogLevel(document["level"]),
        "format": LogFormat(document["format"]),
        "access": AccessLog(document["access"]),
        "targets": LogTargets(document["targets"]),
    }
    return Log(**{**document, **named})


def _metrics(document: Mapping[str, Any]) -> Metrics:
    address = document["address"]
    return Metrics(
        None if address is None else Address.parse(address), Switch(document["application"]), document["series"]
    )


def _workers(document: int | dict[str, Any] | None) -> int | WorkerRange | None:
    return WorkerRange(**document) if isinstance(document, dict) else document


def _health_check(document: Mapping[str, Any]) -> HealthCheck:
    return HealthCheck(**{**document, "headers": tuple(document["headers"])})


def _addresses(texts: Iterable[str]) -> tuple[Address, ...]:
    return tuple(Address.parse(text) for text in texts)


def _plain(value: object) -> JSON:
    if isinstance(value, Address):
        return str(value)
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} does not belong in a configuration")
