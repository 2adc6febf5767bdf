"""An application whose worker 1 is hostile: it gets hold of its channel, and does with it whatever it is told.

It is deployed as it is (tests/process/test_hostile_worker.py), and is told by `clusterctl send 1 '["NAME", SEED]'`. The
other workers serve.
"""

import array
import contextlib
import gc
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from clusterd import worker
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.region import KEYS_AT, LENGTH, MAGIC, REGION_LAYOUT
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.wire import messages
from clusterd.wire.channel import Channel
from clusterd.wire.messages import Message, encode
from clusterd.wire.packets import peer_pid
from clusterd.worker.boot_record import Boot

Kind = TypeVar("Kind")

FOREVER = 1 << 30
"""Seconds."""

ATTACKS: dict[str, Callable[[], None]] = {}


def attack(call: Callable[[], None]) -> Callable[[], None]:
    ATTACKS[call.__name__] = call
    return call


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {worker.id} {os.environ['CLUSTERD_GENERATION']} 1".encode()]


@worker.on("message")
def told(message: list[Any]) -> None:
    name, seed = message
    random.seed(seed)
    threading.Thread(target=begin, args=(name,), daemon=True).start()


def begin(name: str) -> None:
    """Say so, as it may be the last that is heard of this process."""
    print(f"attack begins: {name}", flush=True)
    ATTACKS[name]()


def found_one(kind: type[Kind]) -> Kind:
    """An object of clusterd's own in this process."""
    return next(each for each in gc.get_objects() if isinstance(each, kind))


def channel() -> socket.socket:
    """The channel of this worker. It is non-blocking."""
    return found_one(Boot).channel


def descriptors(prefix: str) -> Iterator[int]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(prefix):
                yield int(name)


def channels() -> list[socket.socket]:
    """Every socket on which the master receives packets of this process, the oldest first."""
    found = []
    for descriptor in sorted(descriptors("socket:")):
        sock = socket.socket(fileno=os.dup(descriptor))
        if sock.type == socket.SOCK_SEQPACKET and peer_pid(sock) == int(os.environ["CLUSTERD_MASTER_PID"]):
            sock.setblocking(False)
            found.append(sock)
    return found


def say(sock: socket.socket, data: bytes | Message, *passed: int) -> bool:
    """Send a packet. Returns False if the master has closed its end, or does not read any more."""
    packet = encode(data) if isinstance(data, Message) else data
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            sock.sendmsg([packet], rights, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return False
        else:
            return True
    return False


# ---- words


@attack
def speaks_as_template() -> None:
    sock = channel()
    for serial in range(200):
        if not say(sock, messages.ForkFailed(serial, "no")):
            return


@attack
def has_loaded() -> None:
    sock = channel()
    say(sock, messages.Loaded(1, 0.5), os.memfd_create("x"))
    say(sock, messages.LoadFailed("no", "no", permanent=True))


@attack
def is_ready_without_end() -> None:
    sock = channel()
    for _ in range(30_000):
        if not say(sock, messages.Ready()):
            return


@attack
def sends_the_largest_without_end() -> None:
    sock = channel()
    packet = (
        b'{"v": 1, "type": "AppMessage", "value": [' + b"[]," * 20_000 + b'0], "request": 0, "reply": 9, "error": ""}'
    )
    until = time.monotonic() + 5
    while time.monotonic() < until and say(sock, packet):
        pass


@attack
def asks_and_never_reads() -> None:
    found_one(Channel)._endpoint.pause_reading()  # noqa: SLF001
    until, number = time.monotonic() + 5, 1
    while time.monotonic() < until and say(channel(), messages.AppMessage("?" * 5000, request=number)):
        number += 1
    os._exit(0)


@attack
def says_what_cannot_be_said() -> None:
    sock = channel()
    say(sock, b'{"v": 1, "type": "AppMessage", "value": NaN, "request": 1, "reply": 0, "error": ""}')


@attack
def says_numbers_that_are_none() -> None:
    sock = channel()
    say(sock, b'{"v": 1, "type": "SuccessorLost", "connections": ' + b"9" * 4000 + b"}")


# ---- descriptors


def clinging() -> socket.socket:
    """A connection whose last close waits: its peer does not read what was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    KEPT.append(far)
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(1 << 16))
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, FOREVER >> 8))
    return near


KEPT: list[socket.socket] = []


@attack
def passes_what_is_slow_to_close() -> None:
    for sock in channels() * 3:
        for message in (messages.Ready(), b"", b"nonsense", messages.MetricsTold(1)):
            with clinging() as slow:
                say(sock, message, slow.fileno())


@attack
def passes_a_thousand() -> None:
    reader, writer = os.pipe()
    for _ in range(20):
        for sock in channels():
            for count in (64, 253):
                say(sock, messages.Ready(), *[reader, writer][: count % 2 + 1] * (count // 2))


@attack
def tells_metrics_from_a_pipe() -> None:
    reader, _ = os.pipe()
    sock = channel()
    for number in range(1, 100):
        if not say(sock, messages.MetricsTold(number), random.choice((reader, os.memfd_create("x")))):
            return


@attack
def closes_its_ends() -> None:
    for sock in channels():
        sock.shutdown(random.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))


@attack
def has_children_speak_on() -> None:
    """It dies, and what it has forked goes on to send."""
    sock = channel()
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            until = time.monotonic() + 90
            while time.monotonic() < until and say(sock, messages.Ready()):
                pass
            os._exit(0)
    time.sleep(0.2)
    os._exit(0)


# ---- memory


@attack
def shortens_what_is_shared() -> None:
    for descriptor in descriptors("/memfd:clusterd"):
        for length in (0, 1, 1 << 45):
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, length)
    os.abort()


@attack
def fills_what_is_its_own() -> None:
    """Its row, its table, its region and its file for stacks: noise."""
    row = found_one(Boot).row
    for descriptor in descriptors("/memfd:clusterd-scoreboard"):
        board = Scoreboard(os.dup(descriptor))
        numbers = board.row(row)
        for cell in range(len(numbers.integers)):
            numbers.integers[cell] = random.randrange(-(1 << 63), 1 << 63)
        table = board.table(row)
        table[:] = random.randbytes(len(table))
    for descriptor in descriptors("/memfd:clusterd-arena"):
        record = LENGTH.pack(3) + b"[0]"
        keys = record * (20_000_000 // len(record))
        os.pwrite(descriptor, keys, Arena.offset_of_row(row) + KEYS_AT)
        header = struct.pack("4Q", MAGIC, REGION_LAYOUT, len(keys), 0)
        os.pwrite(descriptor, header, Arena.offset_of_row(row))
    for descriptor in descriptors("/memfd:clusterd-stacks"):
        os.pwrite(descriptor, random.randbytes(3 << 20), 0)
    time.sleep(1)
    os.abort()


@attack
def storms() -> None:
    """Nearly right packets, on all that it has, with descriptors or without."""
    dice = random.Random(random.random())
    words = [
        messages.Ready(),
        messages.SuccessorLost(1),
        messages.Overdue("GET /\n[fake] line"),
        messages.StacksTold(1, "text"),
        messages.DebuggerTold(""),
        messages.BootFailed("\x1b[2J\nREADY=1", "why", permanent=True),
        messages.Ack(1 << 40),
        messages.AppMessage(["x"] * 9, request=5),
        messages.StandsAside(1),
        messages.Hello(1, 1),
    ]
    memory = os.memfd_create("x")
    open_channels = channels()
    for _ in range(3000):
        packet = bytearray(encode(dice.choice(words)))
        for _ in range(dice.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3))):
            packet[dice.randrange(len(packet))] = dice.randrange(256)
        passed = [memory] * dice.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2))
        open_channels = [each for each in open_channels if dice.random() < 0.9 or say(each, bytes(packet), *passed)]
        if not open_channels:
            return
