"""Reads what all processes have counted, in the master and in every worker."""

import os
from collections.abc import Iterator

from clusterd.metrics.regions.arena import TEMPLATE_SLOT, Arena, Lease
from clusterd.metrics.regions.merging import Contribution
from clusterd.metrics.regions.region import Contents, Keys, RegionReader
from clusterd.metrics.regions.series import Catalog, Shape
from clusterd.records import dataclass

_LEAST_AT_A_DEATH = 4 << 20
_BYTES_OF_A_KEY = 256
"""How many bytes of keys that no scrape has shown before are parsed when a worker has died: at least, and for each
series that it may have. The master does nothing else meanwhile."""
_TRIES = 100
"""How often all is read again because the master has changed something meanwhile. Then the last reading is used."""


@dataclass(frozen=True, slots=True)
class ProcessValues:
    """The values of one process, or of the dead of a slot, in which case there is no lease."""

    slot: int
    lease: Lease | None
    contents: Contents

    @property
    def contribution(self) -> Contribution:
        """The same, for merging."""
        return Contribution(self.contents.series, self.contents.cells)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all processes have counted at one moment. The dead first, then the living, the newest last."""

    processes: tuple[ProcessValues, ...]

    def by_slot(self) -> dict[int, list[ProcessValues]]:
        """The processes of each slot, by its number. TEMPLATE_SLOT is that of the templates."""
        found: dict[int, list[ProcessValues]] = {}
        for process in self.processes:
            found.setdefault(process.slot, []).append(process)
        return dict(sorted(found.items()))

    def definitions(self) -> dict[str, Shape]:
        """What each metric is, by its name: what the newest process says that has it.

        Its values count with those of the same kind and mode.
        """
        found: dict[str, Shape] = {}
        for process in reversed(self.processes):
            for shape in process.contents.shapes:
                found.setdefault(shape.family, shape)
        return found


class ArenaReader:
    """Reads the arena again and again. Remembers the keys of each region, which are parsed once."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.catalog = Catalog()
        self._living: dict[int, RegionReader] = {}
        """By the number of the lease."""
        self._dead: dict[int, RegionReader] = {}
        """By slot."""
        self._keys: dict[int, Keys] = {}
        """Those of one worker of each generation. The others begin with the same, which they have from the template."""

    def read(self) -> Snapshot:
        """Return what all processes have counted."""
        for _ in range(_TRIES):
            before = self._arena.sequence
            dead = tuple(self._read_dead())
            added = frozenset(process.contents.lease for process in dead)
            snapshot = Snapshot((*dead, *self._read_living(added)))
            if before % 2 == 0 and self._arena.sequence == before:
                break
            os.sched_yield()
        return snapshot

    def learn(self) -> Iterator[None]:
        """Parse the keys that are new, and yield now and then. `read` parses what is left, all at once."""
        for lease in self._arena.leases():
            reader = self._reader_of(lease)
            while reader.learn():
                yield
            self._keys.setdefault(lease.generation, reader.keys)
        for slot in self._arena.slots:
            while self._reader_of_dead(slot).learn():
                yield

    def read_lease(self, row: int) -> tuple[Lease, Contents | None, str]:
        """Return the lease of a row, what is in its region, and what is damaged there, to end the lease with it."""
        lease = self._arena.lease_of(row)
        reader = self._reader_of(lease)
        contents = reader.read(max(_LEAST_AT_A_DEATH, lease.most_series * _BYTES_OF_A_KEY))
        del self._living[lease.number]  # There may be no other reading for as long as the master lives.
        return lease, contents, reader.damage

    def damages(self) -> dict[Lease, str]:
        """What was found in the regions that are damaged."""
        return {lease: damage for lease in self._arena.leases() if (damage := self._reader_of(lease).damage)}

    def _read_dead(self) -> Iterator[ProcessValues]:
        for slot in self._arena.slots:
            if contents := self._reader_of_dead(slot).read():
                yield ProcessValues(slot, None, contents)

    def _read_living(self, added: frozenset[int]) -> Iterator[ProcessValues]:
        """Read the leases whose values were not `added` to those of the dead.

        A lease that was added is over in a moment, unless the master was killed right then.
        """
        leases = self._arena.leases()
        gone = self._living.keys() - {lease.number for lease in leases}
        for number in gone:
            del self._living[number]
        generations = {lease.generation for lease in leases}
        self._keys = {generation: keys for generation, keys in self._keys.items() if generation in generations}
        for lease in leases:
            reader = self._reader_of(lease)
            contents = reader.read()
            if contents is not None and lease.slot != TEMPLATE_SLOT and lease.number not in added:
                self._keys.setdefault(lease.generation, reader.keys)
                yield ProcessValues(lease.slot, lease, contents)

    def _reader_of(self, lease: Lease) -> RegionReader:
        reader = self._living.get(lease.number)
        if reader is None:
            offset = self._arena.offset_of_row(lease.row)
            keys = self._keys.get(lease.generation)
            reader = RegionReader(self._arena.descriptor, offset, self.catalog, keys, lease.most_series)
            self._living[lease.number] = reader
        return reader

    def _reader_of_dead(self, slot: int) -> RegionReader:
        reader = self._dead.get(slot)
        if reader is None:
            offset = self._arena.offset_of_slot(slot)
            keys = next(iter(self._keys.values()), None)
            reader = self._dead[slot] = RegionReader(self._arena.descriptor, offset, self.catalog, keys)
        return reader
