"""Every message of the channel between the master, a template and a worker, in one list.

One message is one SEQPACKET packet of at most 64 KiB: a JSON object with the protocol's
version, the message's name and its fields, and up to 64 descriptors beside it.

    {"v": 1, "type": "Fork", "serial": 7, "slot": 2, "generation": 3, "row": 1, "environment": {}} + [channel, stacks]
    {"v": 1, "type": "Ready"}

JSON and never pickle: the two ends may run different interpreters, and a worker runs code
that the master must not trust.
"""

import json
from dataclasses import dataclass, fields
from typing import Any, cast, get_origin

PROTOCOL_VERSION = 1
PACKET_BYTES = 64 * 1024
PACKET_DESCRIPTORS = 64
VALUE_BYTES = 60 * 1024
"""Of what an application says in one message, as JSON: the rest of a packet is for what stands around it."""
MOST_LISTENERS = 40
"""Of one service: they travel in one packet, with the other descriptors that a template needs."""


class ProtocolError(Exception):
    """A packet that is not a message of this protocol."""


@dataclass(frozen=True)
class Message:
    """What all messages are; the subclasses below are the whole vocabulary."""


# ---- master to template


@dataclass(frozen=True)
class Load(Message):
    """Import the application (or, with `preload` false, get ready without it).

    Descriptors: the scoreboard, the memfd that takes its stacks, the wakeups, and one listening socket for each
    of `listeners`, which has what is spoken on it: `http` or `https`.
    """

    generation: int
    config: dict[str, Any]
    preload: bool
    refuse_unforkable: bool
    listeners: list[str]
    log_level: int


@dataclass(frozen=True)
class Fork(Message):
    """Fork a worker. Descriptors: its channel, and the memfd that takes its stacks.

    `environment` is set in it, beside what it has from its template.
    """

    serial: int
    slot: int
    generation: int
    row: int
    environment: dict[str, str]


@dataclass(frozen=True)
class ForkSpare(Message):
    """Fork an idle copy of the template. Descriptor: its channel."""

    serial: int


@dataclass(frozen=True)
class Attach(Message):
    """To a hooks process, its first: import what `hooks` names. Descriptor: the memfd that takes its stacks.

    What follows is said as to an application (below), in the words of `wire/hooks.py`.
    """

    generation: int
    config: dict[str, Any]
    log_level: int


# ---- template (or hooks process) to master


@dataclass(frozen=True)
class Importing(Message):
    """The interpreter is good, and begins with the application: what goes wrong from now on is the application's."""


@dataclass(frozen=True)
class Loaded(Message):
    """The template can fork workers now; the hooks process is ready to be told what happens."""

    generation: int
    seconds: float


@dataclass(frozen=True)
class LoadFailed(Message):
    """The application could not be imported; `reason` is one line, `traceback` the whole story."""

    reason: str
    traceback: str
    permanent: bool
    """To import the same files again would fail again."""


@dataclass(frozen=True)
class Unforkable(Message):
    """The application started threads or opened connections at import; forking it would break them."""

    findings: list[str]


@dataclass(frozen=True)
class ForkFailed(Message):
    """The kernel refused a fork; the worker or spare `serial` does not exist."""

    serial: int
    reason: str


# ---- worker (or spare) to master


@dataclass(frozen=True)
class Hello(Message):
    """The first message of a worker or spare; its pid comes from the kernel (SCM_CREDENTIALS)."""

    serial: int
    layout: int


@dataclass(frozen=True)
class Ready(Message):
    """The application is loaded, worker_start has run, connections can be served."""


@dataclass(frozen=True)
class BootFailed(Message):
    """The worker could not get ready and is exiting."""

    reason: str
    traceback: str
    permanent: bool
    """A successor would fail the same way."""


@dataclass(frozen=True)
class SuccessorLost(Message):
    """The process that took over this worker's connections is gone; some are still here."""

    connections: int


@dataclass(frozen=True)
class Overdue(Message):
    """A thread of this worker has not answered a request within timeouts.request, and can only be ended with it."""

    request: str


@dataclass(frozen=True)
class StacksTold(Message):
    """The answer to TellStacks: for people, and as much of it as fits."""

    number: int
    text: str


@dataclass(frozen=True)
class DebuggerTold(Message):
    """The answer to StartDebugger: it listens, unless there is a `failure`, which says what to do."""

    failure: str


# ---- master to worker


@dataclass(frozen=True)
class Welcome(Message):
    """The master has entered the pid; the worker may run the application's code."""


@dataclass(frozen=True)
class Serve(Message):
    """Accept connections. Also takes back a retirement: the worker serves on as before."""


@dataclass(frozen=True)
class Retire(Message):
    """Stop accepting and let the successor take the connections.

    Descriptor: none, or one end of a socketpair whose other end a successor adopts from.
    With `linger` the worker stays when its last connection has gone (it may have to take its
    slot back); without, it exits then, at the latest at `deadline`, by time.monotonic(): the host has
    one such clock, and a worker that reads this late must not take the master's deadline for a later one.
    """

    deadline: float
    idle_seconds: float
    linger: bool


@dataclass(frozen=True)
class Share(Message):
    """Let another worker have so many connections, as they come to rest, and keep the others.

    Descriptor: one end of a socketpair whose other end the other worker adopts from.
    """

    connections: int
    seconds: float


@dataclass(frozen=True)
class Adopt(Message):
    """Take over the connections that arrive on the descriptor."""


@dataclass(frozen=True)
class Dispatch(Message):
    """Serve the new connections that arrive on the descriptor: the master accepts them, and deals them in turn."""


@dataclass(frozen=True)
class HealthConnection(Message):
    """Serve the connection in the descriptor; the master speaks HTTP on its other end."""


@dataclass(frozen=True)
class SetLogLevel(Message):
    """Log from this level (a number of syslog) on; to templates too, for those that they fork."""

    level: int


@dataclass(frozen=True)
class TellStacks(Message):
    """Say what every thread and task is doing, in a StacksTold with the same number."""

    number: int


@dataclass(frozen=True)
class StartDebugger(Message):
    """Have debugpy listen there, and answer with a DebuggerTold. Asked again, it listens on."""

    host: str
    port: int


# ---- both ways, between the application in a worker and whoever it talks to (`wire/conversation.py`)


@dataclass(frozen=True)
class AppMessage(Message):
    """What an application is told, or says: any JSON value of at most VALUE_BYTES.

    `request` is the number that a reply has to bear, 0 where none is awaited. A reply bears it in `reply`; `error` says
    why there is no value in it, where there is none.
    """

    value: Any
    request: int = 0
    reply: int = 0
    error: str = ""


@dataclass(frozen=True)
class Ack(Message):
    """So many more messages of the other side have been dealt with, and wait no longer. Replies are not counted."""

    count: int


# Not slots=True above: it makes every class twice, and the first ones would be subclasses too.
_MESSAGES: dict[str, type[Message]] = {message.__name__: message for message in Message.__subclasses__()}


def _class_of(annotation: object) -> type:
    return object if annotation is Any else get_origin(annotation) or cast(type, annotation)


_FIELDS: dict[str, dict[str, type]] = {
    # Annotations like dict[str, Any] are checked as far as their class goes: the other end may run anything.
    name: {field.name: _class_of(field.type) for field in fields(message)}
    for name, message in _MESSAGES.items()
}


def encode(message: Message) -> bytes:
    """The packet for `message`. Raises ProtocolError when it would be larger than a packet may be."""
    packet = json.dumps({"v": PROTOCOL_VERSION, "type": type(message).__name__, **vars(message)}).encode()
    if len(packet) > PACKET_BYTES:
        raise ProtocolError(f"{type(message).__name__} of {len(packet)} bytes; at most {PACKET_BYTES} fit a packet")
    return packet


def decode(packet: bytes) -> Message:
    """The message in `packet`. Raises ProtocolError for anything else."""
    try:
        document = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ProtocolError("not a JSON object")
    version, name = document.pop("v", None), document.pop("type", None)
    if version != PROTOCOL_VERSION:
        raise ProtocolError(f"protocol version {version!r}; this side speaks {PROTOCOL_VERSION}")
    if not isinstance(name, str) or name not in _MESSAGES:
        raise ProtocolError(f"unknown message {name!r}")
    kinds = _FIELDS[name]
    if document.keys() != kinds.keys():
        raise ProtocolError(f"{name} with fields {sorted(document)}; it has {sorted(kinds)}")
    for field, value in document.items():
        if not isinstance(value, kinds[field]) and not (kinds[field] is float and isinstance(value, int)):
            raise ProtocolError(f"{name} with {field} {value!r}; it is {kinds[field].__name__}")
    return _MESSAGES[name](**document)
