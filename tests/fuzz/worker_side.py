"""What a worker may write, in bytes that are nearly right: everything that the master reads of it, without a process.

A reader may refuse, by the exceptions that it documents. It must not raise another one, nor take long.
"""

import json
import mmap
import os
import re
import struct
import zlib
from array import array
from collections.abc import Callable
from contextlib import closing
from random import Random
from time import process_time
from typing import Any

from clusterd.master.children.in_hand import held_of, listed, of_loop, with_requests
from clusterd.metrics.application.answer import decode as decode_answer
from clusterd.metrics.page.application_ledger import ApplicationLedger
from clusterd.metrics.page.application_page import Answer as Told
from clusterd.metrics.page.application_page import ApplicationPage
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.reading import ArenaReader
from clusterd.metrics.regions.region import CELLS_AT, KEYS_AT, LENGTH, MAGIC, REGION_LAYOUT
from clusterd.metrics.shared.row import Row, Totals
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.profiles import examination, memory, profile
from clusterd.wire import messages
from clusterd.wire.in_hand import TABLE_BYTES, movable_descriptors, read_table
from clusterd.wire.messages import ProtocolError
from clusterd.wire.passing import Answer, Offer
from clusterd.wire.values import checked
from tests.fuzz.mutation import mutated

MOST_SECONDS = 5.0
"""Of the processor, for one reading. It is far beyond what any takes, and far below what a missing bound would cost."""
SERIES = 1000

_MESSAGES: tuple[messages.Message, ...] = (
    messages.Hello(1, 2),
    messages.Ready(),
    messages.Importing(1.5),
    messages.Loaded(1, 0.25),
    messages.LoadFailed("why", "Traceback", permanent=False),
    messages.Unforkable(["a thread"]),
    messages.StandsAside(3),
    messages.ForkFailed(2, "too many"),
    messages.Reaped(2, 9, 0.25, 4711),
    messages.BootFailed("why", "Traceback", permanent=True),
    messages.SuccessorLost(3),
    messages.Overdue("GET /"),
    messages.StacksTold(1, "text"),
    messages.MetricsTold(1),
    messages.DebuggerTold(""),
    messages.AppMessage({"a": [1, None, "\ud83d\ude00"]}, request=1),
    messages.Ack(1),
)
PACKETS = [
    *map(messages.encode, _MESSAGES),
    Answer(1).encode(),
    Offer(1, {"residual": "", "peer": ["::1", 80], "local": None}).encode(),
]
_NASTY = (
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-0", b"true", b"null", b"[]", b"{}", b'""', b'"\\ud800"', b"\xff"),
    *(
        b"[" * 900 + b"]" * 900,
        b'"v": 1, ',
        b'"type": "Ready"',
        b"\\u0000",
        b"\\n",
        b"\xf0\x9f\x98\x80",
        b"9223372036854775808",
    ),
)
_SHAPES = (
    ["counter", "a", "a_total", [], "Help.", ""],
    ["gauge", "g", "g", ["x"], "", "livesum"],
    ["histogram", "h", "h_bucket", ["le"], "", ""],
    ["counter", "clusterd_worker_up", "clusterd_worker_up", [], "", ""],
    ["gauge", "b", "clusterd_http_requests_total", ["__name__", "a-b", "a_b", "worker"], "\ud800", "all"],
    ["none", "", "", [""], "\n# TYPE x counter", "latest"],
)
_LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"[,}]')
_ANSWER = (
    b'["queue", "gauge", "Help."]\n["queue", {"name": "a"}, 3, null]\n'
    b'["x", "counter", ""]\n["x_total", {}, 1.5, 17.25]\n'
)
_PROFILE = json.dumps(
    {
        "version": 1,
        "seconds": 1.0,
        "looks": 60,
        "trees": [
            {"frames": [["threads", "", 0], ["f", "a.py", 3]], "nodes": [[-1, 0, 0, 0], [0, 1, 5, 5]], "cut": 0},
        ],
    }
).encode()
_MEMORY = json.dumps(
    {
        "version": 1,
        "seconds": 1.0,
        "is_cut": False,
        "traced_by_application": False,
        "allocated": 5,
        "sites": [{"size": 1, "count": 1, "stack": [["a.py", 3, "x = 1"]]}],
        "objects": 3,
        "frozen": 0,
        "types": [["dict", 3, 1]],
        "private_bytes": [1, 2],
        "pss_bytes": [1, 2],
    }
).encode()
_STACKS = (
    b"Current thread 0x00007f0000000001 [worker] (most recent call first):\n"
    b'  File "a.py", line 3 in f\n  File "b.py", line 4 in g\n\n'
    b'Thread 0x00007f0000000002 (most recent call first):\n  File "a.py", line 3 in f\n'
)


class WorkerSide:
    """Writes as a worker that is out of its mind, and reads as the master does."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)
        self._readings: tuple[Callable[[], None], ...] = (
            self._packet,
            self._row,
            self._table,
            self._region,
            self._answer,
            self._examination,
            self._stacks,
        )
        self.rounds = 0
        self.refused = 0

    def round(self) -> None:
        """Try each reader once."""
        self.rounds += 1
        for reading in self._readings:
            begun = process_time()
            reading()
            took = process_time() - begun
            assert took < MOST_SECONDS, f"{reading.__name__} took {took:.1f} s"

    # ---- what is written

    def _nearly(self, *seeds: bytes) -> bytes:
        data = mutated(self._dice, list(seeds))
        for _ in range(self._dice.choice((0, 0, 1, 2))):
            at = self._dice.randint(0, len(data))
            data = data[:at] + self._dice.choice(_NASTY) + data[at + self._dice.choice((0, 1, 4)) :]
        return data

    def _noise(self, length: int) -> bytes:
        return self._dice.randbytes(length)

    def _number(self) -> int:
        dice = self._dice
        return dice.choice((0, 1, -1, dice.randrange(-(1 << 63), 1 << 63), (1 << 63) - 1, -(1 << 63)))

    # ---- what is read

    def _packet(self) -> None:
        packet = self._nearly(*PACKETS)
        try:
            message = messages.decode(packet)
            if isinstance(message, messages.AppMessage | messages.Ack):
                checked(message)
            messages.encode(message)  # What was taken can be passed on, and logged.
            str(message).encode("utf-8", "backslashreplace")
        except ProtocolError as error:
            self.refused += 1
            assert len(str(error)) < 2000
        for kind in (Answer, Offer):
            try:
                kind.decode(packet)
            except ProtocolError:
                pass

    def _row(self) -> None:
        with closing(Scoreboard.create()) as scoreboard:
            index = scoreboard.lease()
            row = scoreboard.row(index)
            for cell in range(len(row.integers)):
                row.integers[cell] = self._number()
            for each in (row.totals(), row.totals() + Totals()):
                assert min(each.counts) >= 0
                assert all(0 <= a_sum < float("inf") for a_sum in each.sums)
            _ = row.requests, row.queue_length, row.threads_busy, Row.responses.by_class(row.totals())
            del row

    def _table(self) -> None:
        table = memoryview(mmap.mmap(-1, TABLE_BYTES))
        for _ in range(self._dice.randrange(200)):
            start = self._dice.randrange(0, TABLE_BYTES - 8, 8)
            table[start : start + 8] = self._noise(8) if self._dice.random() < 0.5 else struct.pack("d", self._float())
        found = read_table(table, whole=self._dice.random() < 0.5)
        held_of(found, 1000.0)
        listed(found, 1000.0).encode()
        with_requests(_STACKS.decode(), found)
        assert all(0 <= each < 1 << 16 for each in movable_descriptors(table))

    def _float(self) -> float:
        return self._dice.choice((0.0, -0.0, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324, 12.5))

    def _region(self) -> None:
        with closing(Arena.create()) as arena:
            reader = ArenaReader(arena)
            ledger = ApplicationLedger(arena, reader)
            arena.lease(0, 1, 1, SERIES)
            offset = arena.offset_of_row(0)
            keys = b"".join(LENGTH.pack(len(each)) + each for each in self._keys())
            if self._dice.random() < 0.5:
                keys = self._nearly(keys)
            cells = array("d", [self._float() for _ in range(200)])
            os.pwrite(arena.descriptor, keys, offset + KEYS_AT)
            os.pwrite(arena.descriptor, cells, offset + CELLS_AT)
            length = self._dice.choice((len(keys), len(keys), len(keys), 1 << 40, 0, 25_000_000))
            os.pwrite(arena.descriptor, struct.pack("4Q", MAGIC, REGION_LAYOUT, length, 1 << 63), offset)
            for _ in reader.learn():
                pass
            self._page(reader)
            ledger.fold(0)
            self._page(reader)

    def _keys(self) -> list[bytes]:
        shapes = [json.dumps(self._dice.choice(_SHAPES)).encode() for _ in range(3)]
        dice = self._dice
        series = [
            json.dumps([dice.randrange(4), *("v" * dice.randrange(3) for _ in range(dice.randrange(5)))])
            for _ in range(20)
        ]
        keys = [*shapes, *(each.encode() for each in series)]
        if self._dice.random() < 0.3:
            self._dice.shuffle(keys)
        return keys * self._dice.choice((1, 1, 1, 400))

    def _page(self, reader: ArenaReader, answers: dict[int, Told] | None = None) -> None:
        page = ApplicationPage()
        text = "".join(page.lines(reader.read(), answers or {}, is_open=self._dice.random() < 0.5))
        for line in text.encode("utf-8", "replace").decode().split("\n"):
            assert line.startswith("clusterd_application_") or not line.startswith("clusterd_"), line
            names = [] if line.startswith("#") else _LABEL.findall(line.partition("{")[2])
            assert len(names) == len(set(names)), line

    def _answer(self) -> None:
        answer = self._nearly(_ANSWER) * self._dice.choice((1, 1, 50))
        try:
            told = tuple(step for step in decode_answer(answer, SERIES) if step is not None)
        except ValueError:
            self.refused += 1
            return
        with closing(Arena.create()) as arena:
            self._page(ArenaReader(arena), {1: Told(told, 0.5)})

    def _examination(self) -> None:
        descriptor = examination.new_file()
        try:
            examination.begun(descriptor)
            examination.done(descriptor, self._nearly(zlib.compress(_PROFILE)))
            os.pwrite(descriptor, self._noise(3), self._dice.randrange(12))
            os.ftruncate(descriptor, self._dice.choice((0, 7, 8, 100, 1 << 40)))
            found = examination.read(descriptor)
            assert len(found.result) <= examination.MOST_BYTES
        finally:
            os.close(descriptor)
        for read, seed, refusal in (
            (lambda data: profile.parsed(profile.decompressed(data)), zlib.compress(_PROFILE), profile.BadProfile),
            (profile.parsed, _PROFILE, profile.BadProfile),
            (memory.parsed, _MEMORY, memory.BadReport),
        ):
            self._read(read, self._nearly(seed), refusal)

    def _read(self, read: Callable[[bytes], Any], data: bytes, refusal: type[Exception]) -> None:
        try:
            read(data)
        except refusal:
            self.refused += 1

    def _stacks(self) -> None:
        text = self._nearly(_STACKS).decode(errors="replace")
        profile.of_dumps(text)
        of_loop(with_requests(text, read_table(memoryview(bytearray(TABLE_BYTES)))))
