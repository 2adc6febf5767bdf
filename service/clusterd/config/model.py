"""The configuration as the rest of clusterd sees it: checked, frozen, in seconds and bytes.

Standard library only: it crosses to the template and the workers, which run in the application's own
interpreter. What a setting means, its default and its range are in `config.schema`; nothing here has a
default, so that there is one place for them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from clusterd.config.address import Address, TcpAddress, UnixAddress

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
    "LogLevel",
    "Preload",
    "Restarts",
    "Rollout",
    "Scheduling",
    "Switch",
    "TcpAddress",
    "Timeouts",
    "Tls",
    "TlsVersion",
    "UnixAddress",
    "UnixSockets",
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
    """Who gets a new connection."""

    LEAST_CONNECTIONS = "least_connections"
    ROUND_ROBIN = "round_robin"
    SHARED = "shared"


class Switch(StrEnum):
    """Something that is done or not. `on` and `off` are text in YAML 1.2, as they are everywhere in this file."""

    OFF = "off"
    ON = "on"


class TlsVersion(StrEnum):
    """The oldest version of TLS that is spoken."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


class AccessLog(StrEnum):
    """Which requests are logged."""

    OFF = "off"
    ERRORS = "errors"
    ALL = "all"


class LogLevel(StrEnum):
    """The least severe record that is written."""

    DEBUG = "debug"
    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A request that a new worker must answer before its predecessor drains. `timeout` in seconds."""

    path: str
    host: str
    expect: str
    timeout: float

    def accepts(self, status: int) -> bool:
        """Whether a response of this status passes: `expect` is a status (`204`) or a class (`2xx`)."""
        return str(status) == self.expect or f"{status // 100}xx" == self.expect


@dataclass(frozen=True, slots=True)
class Rollout:
    """How generations replace each other. Times in seconds."""

    surge: int
    boot_timeout: float
    settle: float
    max_draining: int
    health_check: HealthCheck | None


@dataclass(frozen=True, slots=True)
class Restarts:
    """How many workers that had been ready are restarted at once: `burst` in `per` seconds, all slots together."""

    burst: int
    per: float


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take, in seconds. `request` is None when there is no limit."""

    drain: float
    drain_idle: float
    hang: float
    unready: float
    request: float | None
    queue: float
    keepalive: float
    header: float
    body: float
    write: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be: counts per worker, sizes in bytes; 0 is no limit for the last two."""

    connections: int
    queue: int
    request_line: int
    headers: int
    header_count: int
    body: int
    max_requests: int
    max_memory: int


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged."""

    level: LogLevel
    access: AccessLog


@dataclass(frozen=True, slots=True)
class Debug:
    """Where debuggers may attach to workers: on `port` + slot of `host`; nowhere without a `port`."""

    port: int | None
    host: str


@dataclass(frozen=True, slots=True)
class Tls:
    """HTTPS. Certificate and key are paths or `credential:NAME`; `key` is None where one file has both."""

    listen: tuple[Address, ...]
    certificate: str | None
    key: str | None
    minimum_version: TlsVersion


@dataclass(frozen=True, slots=True)
class UnixSockets:
    """Who may connect to the Unix sockets that clusterd itself binds; None is whom clusterd runs as."""

    mode: int
    owner: str | None
    group: str | None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration.

    Paths are absolute, their symbolic links unresolved: each generation resolves `directory` when it starts.
    Either `app`, which is `module:attribute` or `module:factory()`, or `run`, `module:function`, is None.
    `metrics` is None when there is no endpoint, `control` for the default place, which `config.paths` knows, and
    `workers` for as many as `config.cpus` counts.
    `trusted_proxies` has addresses, networks and `unix`, as texts.
    """

    app: str | None
    run: str | None
    interface: Interface
    directory: str
    python: str
    environment: Mapping[str, str]
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
    metrics: Address | None
    control: str | None
    workers: int | None
    threads: int
    scheduling: Scheduling
    rollout: Rollout
    restarts: Restarts
    timeouts: Timeouts
    limits: Limits
    log: Log
    debug: Debug


def to_json(config: Config) -> dict[str, JSON]:
    """What `from_json` turns into the same configuration again, save for the environment.

    That may be larger than a packet of the channel: a generation gets it by exec.
    """
    document = {field.name: _plain(getattr(config, field.name)) for field in fields(config)}
    del document["environment"]
    return document


def from_json(document: Mapping[str, Any], environment: Mapping[str, str] = _NOTHING) -> Config:
    """The configuration that `to_json` wrote, in another process of the same version of clusterd.

    Raises TypeError, KeyError or ValueError for anything else: that is our own mistake, never an operator's.
    """
    rollout, check, metrics = document["rollout"], document["rollout"]["health_check"], document["metrics"]
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
        "metrics": None if metrics is None else Address.parse(metrics),
        "scheduling": Scheduling(document["scheduling"]),
        "rollout": Rollout(**{**rollout, "health_check": None if check is None else HealthCheck(**check)}),
        "restarts": Restarts(**document["restarts"]),
        "timeouts": Timeouts(**document["timeouts"]),
        "limits": Limits(**document["limits"]),
        "log": Log(LogLevel(document["log"]["level"]), AccessLog(document["log"]["access"])),
        "debug": Debug(**document["debug"]),
    }
    return Config(**{**document, **converted})


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
