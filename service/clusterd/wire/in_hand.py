"""The requests that a worker's application is handling, and the connections that could move to another worker, as they
are in shared memory: the layout, and how it is read.

The engine of the worker writes them (http/in_hand.py). The master reads them: while the worker hangs, and after it has
died, whatever has killed it. The memory is one table of columns, so that its reader need not touch the texts of free
places, and its writer uses the same few pages for all requests.
"""

import re
from enum import Enum
from typing import Final
from zlib import crc32

from clusterd.records import dataclass

PLACES: Final = 256
"""The most requests that are recorded at a time. While all places are taken, later requests are only counted."""

PEER_BYTES: Final = 56
LINE_BYTES: Final = 184
_CELL: Final = 8
_PAGE: Final = 4096

# The header, in cells.
UNNAMED: Final = 0
"""The number of requests that the application handles and that have no place."""
LOOP_THREAD: Final = 1
"""The identifier of the thread that runs the event loop (threading.get_ident())."""

BEGUN: Final = _PAGE
"""The first column: when the head of the request was complete, by time.monotonic(), as a float. It is negative while no
thread runs the request, and 0 if the place is free.
"""
THREADS: Final = BEGUN + PLACES * _CELL
"""The second column: the identifier of the thread that runs the request, or that has run another one there."""
DESCRIPTORS: Final = THREADS + PLACES * _CELL
"""The third column: the descriptor of the connection that has the place; -1 if its connection has left the request."""
TEXTS: Final = DESCRIPTORS + PLACES * _CELL
"""The texts of each place: a byte with the kind, the peer, which a zero ends, and the start of the request line."""
TEXT_BYTES: Final = PEER_BYTES + LINE_BYTES
MOST_DESCRIPTORS: Final = 65536
"""Connections with descriptors from here on are not marked."""
MOVABLE: Final = -(-(TEXTS + PLACES * TEXT_BYTES) // _PAGE) * _PAGE
"""A byte for each descriptor. It is 1 for a connection that another process could serve without knowing more than the
descriptor, at any moment at which no request of it is in hand: its last response is wholly in the kernel, and nothing
was read of the next request. So it need not be written for each request.
"""
TABLE_BYTES: Final = MOVABLE + MOST_DESCRIPTORS
LAYOUT: Final = crc32(
    repr((PLACES, PEER_BYTES, LINE_BYTES, BEGUN, THREADS, DESCRIPTORS, TEXTS, MOVABLE, MOST_DESCRIPTORS)).encode()
)
"""Differs when the meaning of a byte does."""

_MARKED: Final = re.compile(rb"\x01")
_CUT: Final = "..."
UNIX_PEER: Final = "unix"
"""The peer of a connection to a Unix socket."""


class Kind(Enum):
    """What a place holds. The values are the bytes in the memory."""

    REQUEST = 0x72
    WEBSOCKET = 0x77
    """A WebSocket that is open: its request is answered, and its call goes on."""
    LEFT = 0x6C
    """A request whose client has gone or got its answer from the server, while the application still handles it."""


_KINDS: Final = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class RequestInHand:
    """One request. A long target is cut."""

    method: str
    target: str
    begun: float
    """When its head was complete, by time.monotonic()."""
    peer: str
    thread: int
    """The identifier of the thread that runs it; 0 if none does, or the event loop's."""
    kind: Kind


@dataclass(frozen=True, slots=True)
class Table:
    """The requests of one worker at one moment, the oldest first."""

    requests: tuple[RequestInHand, ...] = ()
    unnamed: int = 0
    """How many more there are, which have no place."""
    loop_thread: int = 0
    """The identifier of the thread that runs the event loop; 0 if it is not known yet."""


EMPTY: Final = Table()


def read_table(memory: memoryview, *, whole: bool = False) -> Table:
    """Return what a table holds, the targets without their queries unless `whole`.

    Its writer may be any process, also one that is at work or has written nonsense.
    """
    begun, threads = memory[BEGUN:THREADS].cast("d"), memory[THREADS:DESCRIPTORS].cast("q")
    found = []
    for place, since in enumerate(begun.tolist()):
        if not abs(since) > 0.0:
            continue
        start = TEXTS + place * TEXT_BYTES
        text, thread = bytes(memory[start : start + TEXT_BYTES]), threads[place]
        if begun[place] == since:  # Otherwise the request was over meanwhile, and the text may be another's.
            found.append(_request(text, abs(since), thread if since > 0 else 0, whole))
    header = memory[: 2 * _CELL].cast("q")
    found.sort(key=lambda each: each.begun)
    return Table(tuple(found), max(0, header[UNNAMED]), header[LOOP_THREAD])


def _request(text: bytes, begun: float, thread: int, whole: bool) -> RequestInHand:
    peer = text[1:PEER_BYTES].partition(b"\0")[0].decode("ascii", "replace")
    line = text[PEER_BYTES:].decode("ascii", "replace")
    method, _, rest = line.partition(" ")
    target, is_complete, _ = rest.partition(" ")
    if not is_complete:
        target = f"{target[: -len(_CUT)]}{_CUT}"
    if not whole:
        target = target.partition("?")[0]
    return RequestInHand(method, target, begun, peer, thread, _KINDS.get(text[0], Kind.REQUEST))


def movable_descriptors(memory: memoryview) -> list[int]:
    """Return the descriptors of the connections that are between two requests.

    The holder of the table must be stopped. What it has written may be nonsense.
    """
    begun, descriptors = memory[BEGUN:THREADS].cast("d"), memory[DESCRIPTORS:TEXTS].cast("q")
    in_hand = {descriptor for descriptor, since in zip(descriptors, begun, strict=True) if since}
    marked = (match.start() for match in _MARKED.finditer(memory[MOVABLE : MOVABLE + MOST_DESCRIPTORS]))
    return [descriptor for descriptor in marked if descriptor not in in_hand]
