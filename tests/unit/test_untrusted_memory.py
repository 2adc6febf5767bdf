"""What a worker writes where others read: into its row, its region, and where only the master should write."""

import json
import os
import struct
import time
from array import array
from collections.abc import Iterator
from math import inf, nan

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.application.answer import MOST_LINE_BYTES, decode
from clusterd.metrics.page.application_ledger import ApplicationLedger
from clusterd.metrics.page.application_page import ApplicationPage
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.reading import ArenaReader
from clusterd.metrics.regions.region import (
    CELLS_AT,
    KEYS_AT,
    LENGTH,
    MAGIC,
    MOST_KEY_BYTES,
    MOST_SHAPES,
    REGION_LAYOUT,
)
from clusterd.metrics.regions.series import MOST_LABELS
from clusterd.metrics.shared.row import Row
from clusterd.metrics.shared.scoreboard import Scoreboard

pytestmark = pytest.mark.engine_independent

SERIES = 1000
HEAD_BYTES = 1 << 20


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create()
    yield made
    made.close()


def framed(record: object) -> bytes:
    data = json.dumps(record).encode()
    return LENGTH.pack(len(data)) + data


def write(arena: Arena, keys: bytes, row: int = 0) -> None:
    """Write the keys into the region of a row, with a value for each of some hundred series."""
    keys, offset = keys[:MOST_KEY_BYTES], arena.offset_of_row(row)
    os.pwrite(arena.descriptor, keys, offset + KEYS_AT)
    os.pwrite(arena.descriptor, array("d", (3.0, 1.0)) * 200, offset + CELLS_AT)
    os.pwrite(arena.descriptor, struct.pack("4Q", MAGIC, REGION_LAYOUT, len(keys), 0), offset)


def shape(sample: str = "a_total", labels: tuple[str, ...] = (), family: str = "a", kind: str = "counter") -> bytes:
    return framed([kind, family, sample, labels, "", ""])


MANY = {
    "series": (shape() + framed([0]) * (MOST_KEY_BYTES // 7), f"more than {SERIES} series"),
    "shapes": (shape() * (MOST_KEY_BYTES // len(shape())), f"more than {MOST_SHAPES} shapes"),
    "bytes": (
        shape(labels=("x",)) + framed([0, "x" * 30_000]) * (MOST_KEY_BYTES // 30_008),
        "bytes of keys that are new",
    ),
    "labels": (shape(labels=tuple(f"x{n}" for n in range(MOST_LABELS + 1))), "labels"),
}


@pytest.mark.parametrize("kind", MANY)
def test_the_region_of_a_dead_worker_takes_the_master_no_longer_than_metrics_series_allow(
    arena: Arena, kind: str
) -> None:
    """It took 17 s of the master's to read so many keys of a worker that had just died."""
    keys, damage = MANY[kind]
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    arena.lease(0, 1, 1, SERIES)
    write(arena, keys)
    begun = time.process_time()
    folded = ledger.fold(0)
    assert time.process_time() - begun < 5  # A region without bounds takes several times as long on any machine.
    assert damage in folded.damage


def test_the_master_reads_of_no_worker_who_has_what(arena: Arena) -> None:
    """A worker that wrote to the table of leases had its values shown as those of another slot."""
    arena.lease(0, 1, 1)
    arena.lease(1, 2, 1)
    arena.keep(1)
    write(arena, shape() + framed([0]))
    reader = ArenaReader(arena)
    os.pwrite(arena.descriptor, os.urandom(HEAD_BYTES // 2), 16)
    assert [(lease.row, lease.slot) for lease in arena.leases()] == [(0, 1), (1, 2)]
    assert arena.slots == range(2)
    assert [process.slot for process in reader.read().processes] == [1]


def page_of(arena: Arena) -> str:
    return "".join(ApplicationPage().lines(ArenaReader(arena).read(), {}, is_open=False))


@pytest.mark.parametrize(
    ("kind", "sample"),
    [("gauge", "clusterd_worker_up"), ("counter", "other_total"), ("none", "a_total"), ("summary", "a_bucket")],
)
def test_a_series_has_the_name_of_its_metric(arena: Arena, kind: str, sample: str) -> None:
    """A worker could have shown series of clusterd's, or of another metric."""
    arena.lease(0, 1, 1)
    write(arena, shape(sample, kind=kind) + framed([0]))
    assert sample not in page_of(arena)


@pytest.mark.parametrize(
    "labels",
    [("a-b", "a_b", "a b"), ("worker", "exported_worker"), ("__name__",), ("", "_"), ("1", "_1"), ("\ud800",)],
)
def test_no_label_of_a_worker_costs_the_whole_page(arena: Arena, labels: tuple[str, ...]) -> None:
    """Prometheus refuses a page in which a series has two labels of one name, or another name of its own."""
    arena.lease(0, 1, 1)
    write(arena, shape(labels=labels) + framed([0, *labels]))
    (family,) = (
        each for each in text_string_to_metric_families(page_of(arena)) if not each.name.startswith("clusterd_")
    )
    (sample,) = family.samples
    assert len(sample.labels) == len(labels) + 1
    assert not any(name.startswith("__") for name in sample.labels)
    assert sample.labels["worker"] == "1"


@pytest.mark.parametrize(
    "answer",
    [
        b'["a", "gauge", ""]\n["b", "gauge", ""]\n["b", {}, 1, null]\n',
        b'["a", "gauge", ""]\n' + b'["a", {}, 1, null]\n' * 11,
        b'["a", "gauge", "' + b"x" * MOST_LINE_BYTES + b'"]\n["a", {}, 1, null]\n',
        b'["a", "gauge", ""]\n["a", {' + b",".join(b'"x%d": ""' % n for n in range(MOST_LABELS + 1)) + b"}, 1, null]\n",
    ],
)
def test_an_answer_that_no_worker_of_ours_would_give_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"neither|bytes|labels"):
        list(decode(answer, 10))


def test_what_cannot_be_a_count_is_none() -> None:
    """A negative count made the counters of a slot decrease, and NaN stayed in its sums after the worker."""
    scoreboard = Scoreboard.create()
    ledger = Ledger()
    for worst, of_time in ((-(1 << 63), nan), (-1, inf), (-5, -1.0)):
        row = scoreboard.row(scoreboard.lease())
        row.accepted = 3
        for cell in range(Row.responses.start, Row.responses.start + Row.responses.cells):
            row.integers[cell] = worst
        row.floats[Row.queue.sum_start] = of_time
        ledger.fold(1, row, 0.0)
    totals = ledger.totals(1, ())
    assert Row.accepted.of(totals) == 9
    assert set(Row.responses.by_class(totals).values()) == {0}
    assert Row.queue.of(totals)[1] == 0.0
    del row
    scoreboard.close()
