"""Every message of the channels between the master, a template, a worker and the hooks process.

One message is one SEQPACKET packet of at most 64 KiB. It contains a JSON object with the protocol's version, the
message's name and its fields, and up to 64 descriptors.

    {"v": 1, "type": "ForkSpare", "serial": 7, "reaped_by_template": false} + [channel]
    {"v": 1, "type": "Ready"}

JSON is used and not pickle: the two ends may run different interpreters, and a worker runs code that the master must
not trust.
"""

import json
from math import isfinite
from typing import Any, cast, get_origin
from zlib import crc32

from clusterd.records import dataclass

PROTOCOL_VERSION = 1
PACKET_BYTES = 64 * 1024
PACKET_DESCRIPTORS = 64
VALUE_BYTES = 60 * 1024
"""The largest value that an application sends in one message, as JSON. The rest of the packet is for the envelope."""
MOST_LISTENERS = 40
"""The most listening sockets of one service. They must fit one packet, with a template's other descriptors."""


class ProtocolError(Exception):
    """A packet is not a message of this protocol."""


@dataclass(frozen=True)
class Message:
    """The base class of all messages. Its subclasses below are the whole protocol."""


# ---- master to template


@dataclass(frozen=True)
class Load(Message):
    """Import the application, or prepare to fork without importing it if `preload` is false.

    Descriptors: the scoreboard, the arena, the memfd for the template's stacks, the wakeups, and one listening socket
    for each of `listeners`, which names the socket's protocol: `http` or `https`.

    With `outlives_master`, the template and its workers go on when the master dies: systemd keeps the master's end of
    their channels, and the next master sends MasterChanged. They still end when a channel ends.
    """

    generation: int
    config: dict[str, Any]
    preload: bool
    refuse_unforkable: bool
    listeners: list[str]
    log_level: int
    outlives_master: bool


@dataclass(frozen=True)
class Fork(Message):
    """Fork a worker. Descriptors: its channel, and the memfd for its stacks.

    `environment` is added to the environment that the worker has from its template. With `reaped_by_template`, the
    template stays its parent, reaps it and sends Reaped: it is no descendant of the master that would inherit the
    worker. Only a template that was loaded with `outlives_master` is sent that.
    """

    serial: int
    slot: int
    generation: int
    row: int
    environment: dict[str, str]
    reaped_by_template: bool


@dataclass(frozen=True)
class ForkSpare(Message):
    """Fork an idle copy of the template. Descriptor: its channel. `reaped_by_template` is that of Fork."""

    serial: int
    reaped_by_template: bool


@dataclass(frozen=True)
class Leave(Message):
    """The generation is over, and the channel ends next.

    A template whose channel ends without this has lost its master, and no other has followed: it waits for the end of
    its workers, and ends what the import has started, which no other process does then.
    """


@dataclass(frozen=True)
class Attach(Message):
    """The first message to a hooks process: import the module that `hooks` names. Descriptor: the memfd for its stacks.

    All further messages are those of the application (below), with the content of `wire/hooks.py`.
    """

    generation: int
    config: dict[str, Any]
    log_level: int


# ---- template (or hooks process) to master


@dataclass(frozen=True)
class Importing(Message):
    """The interpreter works and begins to import the application. Later failures are the application's."""

    certificate_ends_at: float
    """When the certificate for HTTPS ends, in seconds since 1970; 0 if there is none."""


@dataclass(frozen=True)
class Loaded(Message):
    """The template can fork workers now, or the hooks process can receive events.

    Descriptor: the memory with what the application's import has counted, if it has metrics.
    """

    generation: int
    seconds: float


@dataclass(frozen=True)
class LoadFailed(Message):
    """The import of the application failed. `reason` is one line, `traceback` the whole traceback."""

    reason: str
    traceback: str
    permanent: bool
    """Whether importing the same files again would fail again."""


@dataclass(frozen=True)
class Unforkable(Message):
    """The import of the application started threads or opened connections, which a fork would break."""

    findings: list[str]


@dataclass(frozen=True)
class StandsAside(Message):
    """The process with this pid, a copy of the template, speaks for it from now on."""

    copy: int


@dataclass(frozen=True)
class ForkFailed(Message):
    """The kernel refused a fork. The worker or spare `serial` does not exist."""

    serial: int
    reason: str


LOST_STATUS = -1
"""The status of a process that its template has not reaped: the kernel has, as the application ignores SIGCHLD
(wait(2)), or the application, which waits for any child."""


@dataclass(frozen=True)
class Reaped(Message):
    """The worker or spare `serial`, which this template has forked with `reaped_by_template`, has ended.

    `status` is that of wait(2), or LOST_STATUS. An order that a master has repeated after the death of the last one
    gives two processes the same serial, and `pid` tells them apart.
    """

    serial: int
    status: int
    cpu_seconds: float
    pid: int = 0


# ---- worker (or spare) to master


@dataclass(frozen=True)
class Hello(Message):
    """The first message of a worker or spare. The kernel adds its pid (SCM_CREDENTIALS)."""

    serial: int
    layout: int


@dataclass(frozen=True)
class Ready(Message):
    """The application is loaded, worker_start has run, and the worker can serve connections."""


@dataclass(frozen=True)
class BootFailed(Message):
    """The worker failed to become ready, and exits."""

    reason: str
    traceback: str
    permanent: bool
    """Whether a successor would fail in the same way."""


@dataclass(frozen=True)
class SuccessorLost(Message):
    """The process that was taking over this worker's connections is gone. This worker still has some of them."""

    connections: int


@dataclass(frozen=True)
class Overdue(Message):
    """A thread of this worker exceeded timeouts.request. The thread can be ended only together with the worker."""

    request: str


@dataclass(frozen=True)
class StacksTold(Message):
    """The answer to TellStacks, as text for people, cut to what fits."""

    number: int
    text: str


@dataclass(frozen=True)
class MetricsTold(Message):
    """The answer to TellMetrics. Descriptor: a memfd with the metrics (`metrics/application/answer.py`), if any."""

    number: int


@dataclass(frozen=True)
class DebuggerTold(Message):
    """The answer to StartDebugger: the debugger listens, or `failure` says why not and what to do."""

    failure: str


# ---- master to template and worker


@dataclass(frozen=True)
class MasterChanged(Message):
    """The master is dead, and its successor, the process `pid`, has its end of this channel.

    What the dead master has read, and had no time to write down, is told again if it still holds: Loaded by a
    template, Hello by a worker that waits for Welcome, and Ready, Overdue and SuccessorLost by another one. A repeated
    message repeats that.
    """

    pid: int


# ---- master to worker


@dataclass(frozen=True)
class Welcome(Message):
    """The master has recorded the pid. The worker may run the application's code."""


@dataclass(frozen=True)
class Serve(Message):
    """Accept connections. This also undoes a retirement: the worker serves again."""


@dataclass(frozen=True)
class SetKeepAlive(Message):
    """Keep connections after a response, or close them while accepting new ones.

    Those that are idle are then closed after `timeouts.drain_idle`.
    """

    is_on: bool


@dataclass(frozen=True)
class Retire(Message):
    """Stop accepting and let the successor take the connections.

    Descriptor: none, or one end of a socketpair from whose other end a successor adopts. With `linger` the worker stays
    when its last connection is gone, because it may have to take its slot back. Without, it exits then, and at the
    latest at `deadline`. The deadline is a time of time.monotonic(), the same clock for all processes of the host, so
    that a worker that reads the message late does not extend it.
    """

    deadline: float
    idle_seconds: float
    linger: bool


@dataclass(frozen=True)
class Share(Message):
    """Hand over this many connections to another worker, each when it is between requests, and keep the others.

    Descriptor: one end of a socketpair from whose other end the other worker adopts.
    """

    connections: int
    seconds: float


@dataclass(frozen=True)
class Adopt(Message):
    """Take over the connections that arrive on the descriptor."""


@dataclass(frozen=True)
class Dispatch(Message):
    """Serve the new connections that arrive on the descriptor. The master accepts them and dispatches them in turn."""


@dataclass(frozen=True)
class HealthConnection(Message):
    """Serve the connection of the descriptor. The master sends an HTTP request on its other end."""


@dataclass(frozen=True)
class SetLogLevel(Message):
    """Log from this level (syslog's number) on. A template passes the level on to its workers."""

    level: int


@dataclass(frozen=True)
class SetAccessLog(Message):
    """Log the requests that the mode says (`log.access`). A template passes the mode on to its workers."""

    mode: str


@dataclass(frozen=True)
class TellStacks(Message):
    """Answer with a StacksTold of the same number: what every thread and task is doing."""

    number: int


@dataclass(frozen=True)
class TellMetrics(Message):
    """Answer with a MetricsTold of the same number: the application's metrics that only the process itself can tell."""

    number: int


@dataclass(frozen=True)
class Examine(Message):
    """Examine this process (`profiles/examination.py`). Descriptor: the file for the result.

    `begin_by` and `until` are times of time.monotonic(). A worker that reads the order after `begin_by` ignores it.
    """

    what: str
    begin_by: float
    until: float


@dataclass(frozen=True)
class StartDebugger(Message):
    """Have debugpy listen at this address, and answer with a DebuggerTold. A repeated message changes nothing."""

    host: str
    port: int


# ---- both ways, between the application in a worker and its peer (`wire/conversation.py`)


@dataclass(frozen=True)
class AppMessage(Message):
    """A message to or from an application: any JSON value of at most VALUE_BYTES.

    `request` is the number that the reply must have, or 0 if no reply is expected. A reply has that number in `reply`.
    `error` says why a reply has no value.
    """

    value: Any
    request: int = 0
    reply: int = 0
    error: str = ""


@dataclass(frozen=True)
class Ack(Message):
    """`count` more messages of the other side were handled, and no longer wait. Replies are not counted."""

    count: int


# slots=True is not used above: it creates every class twice, and the first ones would be subclasses too.
_MESSAGES: dict[str, type[Message]] = {message.__name__: message for message in Message.__subclasses__()}


def _class_of(annotation: object) -> type:
    return object if annotation is Any else get_origin(annotation) or cast(type, annotation)


_FIELDS: dict[str, dict[str, type]] = {
    # Of annotations like dict[str, Any] only the class is checked, because the other end may run any code.
    name: {field: _class_of(annotation) for field, annotation in message.__annotations__.items()}
    for name, message in _MESSAGES.items()
}


LAYOUT = crc32(repr((PROTOCOL_VERSION, [(name, [*found.items()]) for name, found in _FIELDS.items()])).encode())
"""Differs when a message does. Processes with different layouts do not understand each other."""


def encode(message: Message) -> bytes:
    """Return the packet for `message`. Raises ProtocolError if it would be larger than PACKET_BYTES."""
    packet = json.dumps({"v": PROTOCOL_VERSION, "type": type(message).__name__, **vars(message)}).encode()
    if len(packet) > PACKET_BYTES:
        raise ProtocolError(f"{type(message).__name__} of {len(packet)} bytes; at most {PACKET_BYTES} fit a packet")
    return packet


_SHOWN_CHARACTERS = 200
"""Of what is wrong in a packet, in the reason."""
_MOST = 1 << 63
"""Whole numbers are less, so that each can be a float, a time or a key of another program."""


def _is_of(value: object, kind: type) -> bool:
    """Whether a field may have that value. bool is a subclass of int, and JSON in Python knows NaN."""
    if kind is int:
        return type(value) is int and -_MOST <= value < _MOST
    if kind is float:
        return (type(value) is float and isfinite(value)) or _is_of(value, int)
    return isinstance(value, kind)


def decode(packet: bytes) -> Message:
    """Return the message in `packet`. Raises ProtocolError for any other packet."""
    try:
        document = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError("not a JSON object")
    version, name = document.pop("v", None), document.pop("type", None)
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"protocol version {version!r}"[:_SHOWN_CHARACTERS] + f"; this side speaks {PROTOCOL_VERSION}"
        )
    if not isinstance(name, str) or name not in _MESSAGES:
        raise ProtocolError(f"unknown message {name!r}"[:_SHOWN_CHARACTERS])
    kinds = _FIELDS[name]
    if document.keys() != kinds.keys():
        found = f"{name} with fields {sorted(document)}"[:_SHOWN_CHARACTERS]
        raise ProtocolError(f"{found}; it has {sorted(kinds)}")
    for field, value in document.items():
        if not _is_of(value, kinds[field]):
            raise ProtocolError(
                f"{name} with {field} {value!r}"[:_SHOWN_CHARACTERS] + f"; it is {kinds[field].__name__}"
            )
    return _MESSAGES[name](**document)
