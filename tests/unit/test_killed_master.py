"""The master is killed at any write to the memory of the application's metrics: the next one counts all, and once."""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.metrics.application.memory import Memory
from clusterd.metrics.application.values import Value, value_class
from clusterd.metrics.page.application_ledger import ApplicationLedger
from clusterd.metrics.regions.arena import Arena, Kept
from clusterd.metrics.regions.merging import Merged
from clusterd.metrics.regions.reading import ArenaReader
from clusterd.metrics.regions.region import CELLS_AT, KEYS_AT, MAGIC, REGION_LAYOUT, RegionReader
from clusterd.metrics.regions.series import Catalog
from tests.support.dying_master import PARTS, PWRITE, Death, dying

pytestmark = pytest.mark.engine_independent

SERIES = 400
"""Of each worker: more than a page of numbers, and of keys."""
ROWS = range(4)
SLOTS = range(3)
DEATHS = (0, 1)
"""The rows of the workers that die."""

Numbers = dict[object, object]
Shown = dict[tuple[int, str, object], float]


@dataclass
class World:
    """Two slots: one worker of each has died long ago, of the first two die now, and of each one lives."""

    arena: Arena = field(default_factory=Arena.create)
    before: Kept = field(init=False)
    """What the master has written down before the deaths."""
    after: Kept = field(init=False)
    """The same of after them."""

    def __post_init__(self) -> None:
        ledger = ApplicationLedger(self.arena, ArenaReader(self.arena))
        for slot in (1, 2):
            work(self.arena, 0, slot, SERIES // 2, dropped=1)
            ledger.fold(0)
        for row, (slot, series) in enumerate([(1, SERIES), (1, SERIES + 9), (1, SERIES), (2, SERIES)]):
            work(self.arena, row, slot, series, dropped=row)
        self.before = self.arena.kept()
        self.after = replace(self.before, leases=self.before.leases[len(DEATHS) :])


@pytest.fixture
def worlds() -> Iterator[Callable[[], World]]:
    made: list[World] = []

    def make() -> World:
        made.append(World())
        return made[-1]

    yield make
    for each in made:
        each.arena.close()


def work(arena: Arena, row: int, slot: int, series: int, dropped: int = 0) -> None:
    """Be a worker that counts."""
    arena.lease(row, slot, 1)
    count(Memory(arena.descriptor, arena.offset_of_row(row), series + 5), series, arena.lease_of(row).number, dropped)


def count(memory: Memory, series: int, by: int, dropped: int = 0) -> None:
    make: Callable[..., Value] = value_class(memory)
    for mode in ("all", "max", "min", "sum", "mostrecent"):
        make("gauge", mode, mode, (), (), "", multiprocess_mode=mode).set(by, timestamp=float(by))
    for each in range(series):
        make("counter", "orders", "orders_total", ("kind",), (f"kind {each}",), "Help.").inc(by * 1000 + each)
    memory.note_dropped(dropped)


def fold(arena: Arena) -> None:
    """Be a master that reaps."""
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    for row in DEATHS:
        ledger.fold(row)


def numbers(arena: Arena) -> Numbers:
    """Every number of every region, by series."""
    places = [arena.offset_of_slot(slot) for slot in SLOTS] + [arena.offset_of_row(row) for row in ROWS]
    found: Numbers = {}
    for place, offset in enumerate(places):
        contents = RegionReader(arena.descriptor, offset, Catalog()).read()
        if contents is not None:
            found[place, "dropped"] = contents.dropped
            for number, series in enumerate(contents.series):
                found[place, series.sample, series.labels] = contents.cells[number * 2 : number * 2 + 2].tolist()
    return found


def shown(arena: Arena) -> Shown:
    """The counters that a worker's own page shows, which knows only what is in the memory."""
    attached = Arena.attach(os.dup(arena.descriptor))
    try:
        found: Shown = {}
        for slot, processes in ArenaReader(attached).read().by_slot().items():
            merged = Merged(process.contribution for process in processes).values
            found |= {(slot, each.sample, each.labels): merged[each] for each in merged if not each.is_gauge}
        return found
    finally:
        attached.close()


def rows_in_memory(arena: Arena) -> list[int]:
    attached = Arena.attach(os.dup(arena.descriptor))
    try:
        return [lease.row for lease in attached.leases()]
    finally:
        attached.close()


@pytest.fixture
def expected(worlds: Callable[[], World]) -> Numbers:
    """The numbers where no master was killed."""
    world = worlds()
    fold(world.arena)
    return numbers(world.arena)


def writes_of_a_fold(patch: pytest.MonkeyPatch, world: World) -> int:
    death = Death()
    with dying(patch, world.arena, death):
        fold(world.arena)
    return death.writes


@pytest.mark.parametrize("part", PARTS)
def test_a_fold_that_is_killed_at_any_write_is_made_good(
    part: Callable[[int], int], expected: Numbers, worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = writes_of_a_fold(monkeypatch, worlds())
    assert total > 10 * len(DEATHS)
    for left in range(total + 1):
        world = worlds()
        once = shown(world.arena)
        with dying(monkeypatch, world.arena, Death(left, part)):
            fold(world.arena)
        assert shown(world.arena) == once, left
        arena = Arena.go_on(world.arena.descriptor, world.before)
        assert shown(arena) == once, left
        fold(arena)
        assert numbers(arena) == expected, left
        assert shown(arena) == once, left
        assert [lease.row for lease in arena.leases()] == rows_in_memory(arena) == [2, 3]


@pytest.mark.parametrize("left", range(1, 30, 6))
def test_the_next_master_may_be_killed_as_well(
    left: int, expected: Numbers, worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any write with which it begins, and of its own fold of the same workers."""
    killed = 0
    for second in range(100):
        world = worlds()
        once = shown(world.arena)
        with dying(monkeypatch, world.arena, Death(left, PARTS[2])):
            fold(world.arena)
        death = Death(second, PARTS[2])
        with dying(monkeypatch, None, death):
            fold(Arena.go_on(world.arena.descriptor, world.before))
        assert shown(world.arena) == once, second
        arena = Arena.go_on(world.arena.descriptor, world.before)
        fold(arena)
        assert numbers(arena) == expected, second
        if death.writes <= second:
            break
        killed += 1
    assert 10 < killed < 100


def test_who_reads_while_the_next_master_begins_reads_again(
    worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, begun = worlds(), Death()
    attached = Arena.attach(os.dup(world.arena.descriptor))
    with dying(monkeypatch, None, begun):
        Arena.go_on(world.arena.descriptor, world.before)
    assert attached.sequence % 2 == 0
    for left in range(1, begun.writes):
        with dying(monkeypatch, None, Death(left)):
            Arena.go_on(world.arena.descriptor, world.before)
        assert attached.sequence % 2 == 1, left
    attached.close()


def test_a_state_of_after_the_fold_changes_nothing(expected: Numbers, worlds: Callable[[], World]) -> None:
    world = worlds()
    fold(world.arena)
    arena = Arena.go_on(world.arena.descriptor, world.after)
    assert numbers(arena) == expected
    assert rows_in_memory(arena) == [2, 3]


def test_a_program_that_is_upgraded_in_place_finds_every_byte(worlds: Callable[[], World]) -> None:
    world = worlds()
    places = [world.arena.offset_of_slot(slot) for slot in SLOTS] + [world.arena.offset_of_row(row) for row in ROWS]
    before = [os.pread(world.arena.descriptor, 1 << 20, place) for place in places]
    arena = Arena.go_on(world.arena.descriptor, world.arena.kept())
    assert [os.pread(world.arena.descriptor, 1 << 20, place) for place in places] == before
    assert arena.leases() == world.arena.leases()
    assert arena.sequence % 2 == 0
    assert arena.sequence > world.arena.sequence


def test_the_memory_says_what_the_next_master_knows_and_holds_nothing_else(worlds: Callable[[], World]) -> None:
    """A worker was forked that was not written down, and another one has written into the head."""
    world = worlds()
    world.arena.lease(7, 2, 1)
    count(Memory(world.arena.descriptor, world.arena.offset_of_row(7), 100), 9, by=5)
    os.pwrite(world.arena.descriptor, b"\xff" * (1 << 20), 0)
    arena = Arena.go_on(world.arena.descriptor, world.before)
    assert rows_in_memory(arena) == list(ROWS)
    assert os.pread(arena.descriptor, 1 << 20, arena.offset_of_row(7)) == bytes(1 << 20)
    attached = Arena.attach(os.dup(arena.descriptor))
    assert attached.slots == arena.slots == SLOTS
    attached.close()


def test_every_slot_of_which_a_worker_was_known_is_in_use(worlds: Callable[[], World]) -> None:
    world = worlds()
    once = shown(world.arena)
    fold(world.arena)
    arena = Arena.go_on(world.arena.descriptor, replace(world.before, slots_in_use=0))
    assert arena.slots == SLOTS
    assert shown(arena) == once


def test_a_worker_that_no_state_knew_leaves_its_number_to_no_other(worlds: Callable[[], World]) -> None:
    """The mark of a lease that was added would make the next one with its number count nothing."""
    world = worlds()
    work(world.arena, 7, 2, 9)
    number = world.arena.lease_of(7).number
    ApplicationLedger(world.arena, ArenaReader(world.arena)).fold(7)
    arena = Arena.go_on(world.arena.descriptor, world.before)
    work(arena, 7, 2, 9)
    assert arena.lease_of(7).number > number
    once = shown(arena)
    assert shown(Arena.go_on(arena.descriptor, arena.kept())) == once


def test_what_an_import_has_counted_is_never_torn(worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch) -> None:
    for left in range(50):
        world, death = worlds(), Death(left, PARTS[2])
        template = Memory.of_its_own(SERIES + 5)
        count(template, SERIES // 2, by=1)
        ApplicationLedger(world.arena, ArenaReader(world.arena)).fold_template(template.descriptor)
        one = shown(world.arena)
        count(template, SERIES, by=2)
        with dying(monkeypatch, world.arena, death):
            ApplicationLedger(world.arena, ArenaReader(world.arena)).fold_template(template.descriptor)
        arena = Arena.go_on(world.arena.descriptor, world.before)
        torn = shown(arena)
        ApplicationLedger(arena, ArenaReader(arena)).fold_template(template.descriptor)
        both = shown(arena)
        os.close(template.descriptor)
        assert both != one
        assert torn in (one, both), left
        if death.writes <= left:
            assert torn == both
            return
    pytest.fail("it has not come to an end")


def test_a_write_that_the_kernel_cuts_is_continued(
    expected: Numbers, worlds: Callable[[], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda descriptor, what, offset: PWRITE(descriptor, what[:100], offset))
        fold(world.arena)
    assert numbers(world.arena) == expected


@given(st.integers(0, 80), st.binary(min_size=1, max_size=200))
def test_no_bytes_in_a_region_of_the_dead_harm_the_next_master(offset: int, noise: bytes) -> None:
    world = World()
    try:
        once = {key: value for key, value in shown(world.arena).items() if key[0] == 2}
        for start in (offset, CELLS_AT + offset, KEYS_AT + offset):
            PWRITE(world.arena.descriptor, noise, world.arena.offset_of_slot(1) + start)
        arena = Arena.go_on(world.arena.descriptor, world.before)
        fold(arena)
        assert {key: value for key, value in shown(arena).items() if key[0] == 2} == once
        assert rows_in_memory(arena) == [2, 3]
    finally:
        world.arena.close()


def test_damage_of_what_the_dead_have_left_is_said_once(worlds: Callable[[], World]) -> None:
    world = worlds()
    PWRITE(world.arena.descriptor, struct.pack("2Q", MAGIC, REGION_LAYOUT + 1), world.arena.offset_of_slot(1))
    arena = Arena.go_on(world.arena.descriptor, world.before)
    ledger = ApplicationLedger(arena, ArenaReader(arena))
    assert "earlier workers of the slot" in ledger.fold(0).damage
    assert ledger.fold(1).damage == ""


def test_no_number_of_dropped_series_is_too_much(worlds: Callable[[], World]) -> None:
    """A worker says itself how many it has dropped."""
    world = worlds()
    most = (1 << 64) - 1
    for row in DEATHS:
        PWRITE(world.arena.descriptor, struct.pack("Q", most), world.arena.offset_of_row(row) + 3 * 8)
    fold(world.arena)
    assert rows_in_memory(world.arena) == [2, 3]
