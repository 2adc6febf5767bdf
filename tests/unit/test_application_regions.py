"""The memory of the application's metrics: its layout, and what its readers make of any bytes in it."""

import faulthandler
import gc
import os
import struct
import threading
from array import array
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.metrics.application.here import Here
from clusterd.metrics.application.memory import Memory
from clusterd.metrics.application.values import Value, value_class
from clusterd.metrics.page.application_ledger import ApplicationLedger
from clusterd.metrics.regions.arena import Arena, ArenaError
from clusterd.metrics.regions.merging import Contribution, Merged, folded
from clusterd.metrics.regions.reading import ArenaReader
from clusterd.metrics.regions.region import CELLS_AT, HIDDEN, KEYS_AT, SET, UNSET, RegionReader
from clusterd.metrics.regions.series import Catalog, Series, Shape, with_worker

pytestmark = pytest.mark.engine_independent

Make = Callable[..., Value]


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create()
    yield made
    made.close()


def writer(arena: Arena, row: int, slot: int = 1, most: int = 1000) -> Make:
    """Lease a row, and return what a process with this row makes its values with."""
    arena.lease(row, slot, 1)
    return value_class(Memory(arena.descriptor, arena.offset_of_row(row), most))


def count(make: Make, name: str = "orders", amount: float = 1, **labels: str) -> None:
    make("counter", name, f"{name}_total", tuple(labels), tuple(labels.values()), "Help.").inc(amount)


def values(reader: ArenaReader, slot: int = 1) -> dict[str, float]:
    merged = Merged(process.contribution for process in reader.read().processes if process.slot == slot)
    return {f"{each.sample}{dict(each.labels) or ''}": value for each, value in merged.values.items()}


def test_what_one_process_writes_another_reads_as_it_grows(arena: Arena) -> None:
    make, reader = writer(arena, 3), ArenaReader(arena)
    assert values(reader) == {}
    count(make, kind='é\n\\"')
    assert values(reader) == {"orders_total{'kind': 'é\\n\\\\\"'}": 1}
    count(make, kind="b", amount=2.5)
    count(make, kind="b")
    assert values(reader)["orders_total{'kind': 'b'}"] == 3.5


def test_a_value_that_is_made_again_goes_on(arena: Arena) -> None:
    make, reader = writer(arena, 0), ArenaReader(arena)
    count(make)
    count(make)
    assert values(reader) == {"orders_total": 2}


def test_the_dead_are_folded_and_their_region_is_empty_for_the_next(arena: Arena) -> None:
    reader = ArenaReader(arena)
    ledger = ApplicationLedger(arena, reader)
    for number in range(1, 5):
        count(writer(arena, 0), amount=2)
        assert values(reader) == {"orders_total": 2 * number}
        assert ledger.fold(0).damage == ""
        assert values(reader) == values(ArenaReader(arena)) == {"orders_total": 2 * number}
    assert os.pread(arena.descriptor, 64, arena.offset_of_row(0)) == bytes(64)


def test_a_master_that_nobody_asks_for_metrics_remembers_no_reader_of_a_dead_worker(arena: Arena) -> None:
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    before = readers()
    for _ in range(5):
        count(writer(arena, 0))
        ledger.fold(0)
    assert readers() == before


def readers() -> int:
    gc.collect()
    return sum(isinstance(each, RegionReader) for each in gc.get_objects())


def test_a_gauge_that_was_never_set_is_shown_after_a_death_as_before(arena: Arena) -> None:
    reader = ArenaReader(arena)
    ledger = ApplicationLedger(arena, reader)
    writer(arena, 0)("gauge", "price", "price", (), (), "", multiprocess_mode="all")
    assert values(reader) == {"price": 0}
    ledger.fold(0)
    assert values(reader) == {"price": 0}


def test_an_import_that_is_repeated_counts_once(arena: Arena) -> None:
    reader = ArenaReader(arena)
    ledger = ApplicationLedger(arena, reader)
    for amount in (3, 5, 4):
        template = Memory.of_its_own(1000)
        make = value_class(template)
        count(make, amount=amount)
        count(make, name="never", amount=0)
        make("gauge", "price", "price", (), (), "", multiprocess_mode="all").set(1)
        ledger.fold_template(template.descriptor)
        os.close(template.descriptor)
    assert values(reader, 0) == {"orders_total": 5}


class Garbage:
    """Is counted when the collector finds it, by its number."""

    def __init__(self, make: Make, number: int) -> None:
        self._itself = self
        self._make, self._number = make, number

    def __del__(self) -> None:
        count(self._make, f"found{self._number}", number=str(self._number))


def test_a_finalizer_may_count_while_another_series_is_made(arena: Arena) -> None:
    make = writer(arena, 0)
    before = gc.get_threshold()
    gc.set_threshold(7)
    faulthandler.dump_traceback_later(30, exit=True)
    try:
        for number in range(300):
            Garbage(make, number)
            count(make, f"made{number}", amount=number, number=str(number))
        gc.collect()
    finally:
        gc.set_threshold(*before)
        faulthandler.cancel_dump_traceback_later()
    found = values(ArenaReader(arena))
    expected = {f"made{number}_total{{'number': '{number}'}}": float(number) for number in range(300)}
    assert found == expected | {f"found{number}_total{{'number': '{number}'}}": 1 for number in range(300)}


def test_what_has_no_room_is_dropped_and_counted(arena: Arena) -> None:
    make, reader = writer(arena, 0, most=2), ArenaReader(arena)
    for kind in "abcd":
        count(make, kind=kind)
    count(make, kind="a")
    count(make, kind="x" * 40_000)
    assert sorted(values(reader).values()) == [1, 2]
    (process,) = reader.read().processes
    assert process.contents.dropped == 3


def test_another_arena_is_refused(arena: Arena) -> None:
    other = os.memfd_create("other")
    with pytest.raises(ArenaError, match="bytes was expected"):
        Arena.attach(other)
    os.ftruncate(other, os.fstat(arena.descriptor).st_size)
    with pytest.raises(ArenaError, match="header"):
        Arena.attach(other)
    os.close(other)


def test_a_table_of_leases_that_was_overwritten_does_not_move_what_the_dead_have_left(arena: Arena) -> None:
    count(writer(arena, 0))
    table = 8 * 8
    os.pwrite(arena.descriptor, b"\xff" * 24, table)
    ApplicationLedger(arena, ArenaReader(arena)).fold(0)
    assert values(ArenaReader(arena)) == {"orders_total": 1}


def test_only_the_master_can_write_what_is_in_no_region(arena: Arena) -> None:
    attached = Arena.attach(os.dup(arena.descriptor))
    with pytest.raises(TypeError, match="read-only"):
        attached.lease(0, 1, 1)
    attached.close()


@given(st.integers(0, 120), st.binary(min_size=1, max_size=200))
def test_a_damaged_region_costs_no_other_and_never_the_reader(offset: int, noise: bytes) -> None:
    arena = Arena.create()
    try:
        bad, good = writer(arena, 0, slot=1), writer(arena, 1, slot=2)
        for kind in "abc":
            count(bad, kind=kind)
        count(good)
        for start in (offset, CELLS_AT + offset, KEYS_AT + offset):
            os.pwrite(arena.descriptor, noise, arena.offset_of_row(0) + start)
            reader = ArenaReader(arena)
            for _ in reader.learn():
                pass
            assert values(reader, 2) == {"orders_total": 1}
        ledger = ApplicationLedger(arena, reader)
        ledger.fold(0)
        assert values(reader, 2) == {"orders_total": 1}
    finally:
        arena.close()


@pytest.mark.parametrize(
    ("header", "damage"),
    [((1, 2, 3), "header"), ((None, 1, 0), "header"), ((None, None, 1 << 40), "header"), ((None, None, 9), "cut")],
)
def test_damage_is_said(arena: Arena, header: tuple[int | None, ...], damage: str) -> None:
    count(writer(arena, 0))
    offset = arena.offset_of_row(0)
    found = struct.unpack("3Q", os.pread(arena.descriptor, 24, offset))
    written = [was if new is None else new for was, new in zip(found, header, strict=True)]
    os.pwrite(arena.descriptor, struct.pack("3Q", *written), offset)
    reader = ArenaReader(arena)
    reader.read()
    assert damage in next(iter(reader.damages().values()))


def test_a_reader_reads_again_if_the_master_changes_something(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ArenaReader(arena)
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    count(writer(arena, 0), amount=5)
    read = RegionReader.read
    deaths = [0]

    def read_and_die(self: RegionReader, *most: int) -> object:
        contents = read(self, *most)
        if deaths:
            ledger.fold(deaths.pop())
        return contents

    monkeypatch.setattr(RegionReader, "read", read_and_die)
    assert values(reader) == {"orders_total": 5}


@pytest.mark.parametrize("size", [0, 8, CELLS_AT, CELLS_AT + 8])
def test_a_file_that_is_shorter_than_a_region_counts_nothing(arena: Arena, size: int) -> None:
    template = Memory.of_its_own(1000)
    count(value_class(template))
    os.ftruncate(template.descriptor, size)
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    ledger.fold_template(template.descriptor)
    assert values(ArenaReader(arena), 0) == {}
    os.close(template.descriptor)


# ---- merging


def gauge(mode: str) -> Series:
    return Catalog().series(Shape("gauge", "g", "g", (), "", mode), ())


def merged(series: Series, *pairs: tuple[float, float]) -> float | None:
    return Merged(Contribution([series], array("d", pair)) for pair in pairs).values.get(series)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("all", 3), ("max", 7), ("min", -2), ("sum", 8), ("liveall", 3), ("livemax", 7), ("livemin", -2), ("livesum", 8)],
)
def test_gauges_by_their_mode(mode: str, expected: float) -> None:
    assert merged(gauge(mode), (7, SET), (-2, SET), (3, SET)) == expected
    assert merged(gauge(mode), (7, SET), (-2, SET), (3, SET), (0, UNSET)) == expected
    assert merged(gauge(mode), (0, UNSET), (5, SET)) == 5
    assert merged(gauge(mode), (0, UNSET)) == 0
    assert merged(gauge(mode), (0, HIDDEN)) is None


@pytest.mark.parametrize("mode", ["mostrecent", "livemostrecent"])
def test_the_most_recent_one_counts_by_its_time(mode: str) -> None:
    assert merged(gauge(mode), (1, 100), (2, 300), (3, 200)) == 2
    assert merged(gauge(mode), (0, UNSET)) is None


def test_a_gauge_that_the_newest_has_removed_is_gone() -> None:
    assert merged(gauge("all"), (7, SET), (0, HIDDEN)) is None
    assert merged(gauge("max"), (7, SET), (0, HIDDEN)) == 7


def test_a_predecessor_that_dies_later_does_not_undo_what_its_successor_has_set() -> None:
    series = gauge("all")
    kept = folded(series, None, (5, SET), 9)
    assert folded(series, kept, (4, SET), 8) == kept
    assert folded(series, kept, (6, SET), 10)[0] == 6
    assert folded(series, kept, (0, UNSET), 10) == kept


@given(
    st.sampled_from(["max", "min", "sum", "mostrecent", "all"]),
    st.lists(st.tuples(st.integers(-9, 9), st.sampled_from([SET, 2.0, 3.0, UNSET])), min_size=1, max_size=6),
    st.data(),
)
def test_it_makes_no_difference_who_has_died(mode: str, pairs: list[tuple[int, float]], data: st.DataObject) -> None:
    """The values of all, with the first few dead, are those of all of them living."""
    series = gauge(mode)
    # An unset gauge has the value 0, and by the mode of the most recent each has another time.
    pairs = [
        (0 if stamp == UNSET else value, stamp if mode != "mostrecent" or stamp == UNSET else float(index + 1))
        for index, (value, stamp) in enumerate(pairs)
    ]
    dead = data.draw(st.integers(0, len(pairs)))
    kept: tuple[float, float] | None = None
    for lease, (value, stamp) in enumerate(pairs[:dead], 1):
        kept = folded(series, kept, (float(value), stamp), lease)
    left = [] if kept is None else [kept]
    assert merged(series, *left, *pairs[dead:]) == merged(series, *pairs)


def test_a_label_worker_of_the_application_gets_another_name() -> None:
    assert with_worker((("a", "b"),), "3") == {"a": "b", "worker": "3"}
    assert with_worker((("worker", "x"),), "3") == {"exported_worker": "x", "worker": "3"}
    assert with_worker((("exported_worker", "y"), ("worker", "x")), "3") == {
        "exported_worker": "y",
        "exported_exported_worker": "x",
        "worker": "3",
    }


def test_threads_that_read_at_once_read_the_same(arena: Arena) -> None:
    make = writer(arena, 0)
    here = Here(arena, 1000)
    found: list[int] = []

    def read() -> None:
        while len(found) < 200:
            (process,) = here.read().processes
            found.append(len(process.contents.series) - len(set(process.contents.series)))

    count(make)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(300):
        count(make, kind=str(number))
    for thread in threads:
        thread.join()
    assert set(found) == {0}
