"""A master that is killed at any write to the memory of the application's metrics."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from clusterd.linux import memory
from clusterd.metrics.regions.arena import Arena

PWRITE, PUNCH_HOLE = os.pwrite, memory.punch_hole
PARTS: tuple[Callable[[int], int], ...] = (
    lambda length: 0,
    lambda length: 1,
    lambda length: length // 2,
    lambda length: length // 4096 * 4096,
    lambda length: length - 1,
)
"""How much of the last write is done. The kernel cuts a write between two pages; here it may be anywhere."""


class Killed(BaseException):
    """The process is dead. Nothing that it does on its way out has an effect."""


@dataclass
class Death:
    """Lets a master write `left` times, and a part of the next write. Counts what it was asked for."""

    left: float = float("inf")
    part: Callable[[int], int] = PARTS[0]
    writes: int = 0

    def write(self, length: int, do: Callable[[int], Any]) -> Any:
        """Do one write of `length`, all or a part of it or nothing."""
        self.writes += 1
        if self.writes <= self.left:
            return do(length)
        if self.writes == self.left + 1 and (done := self.part(length)) > 0:
            do(done)
        raise Killed


class Head:
    """The memory of the head, in which each assignment is a write."""

    def __init__(self, cells: "memoryview[int]", death: Death) -> None:
        self._cells = cells
        self._death = death

    def __getitem__(self, where: Any) -> Any:
        return self._cells[where]

    def __setitem__(self, where: Any, what: Any) -> None:
        if isinstance(where, slice):
            new = bytes(memoryview(what).cast("B"))
            old = bytes(self._cells[where].cast("B"))
            self._death.write(len(new), lambda done: self._put(where, new[:done] + old[done:]))
        else:
            self._death.write(1, lambda done: self._cells.__setitem__(where, what))

    def _put(self, where: slice, what: bytes) -> None:
        self._cells[where] = memoryview(what).cast("Q")


@contextmanager
def dying(patch: pytest.MonkeyPatch, arena: Arena | None, death: Death) -> Iterator[None]:
    """Have the master of `arena` die within the block. None is a master that only begins, by `Arena.go_on`."""

    def pwrite(descriptor: int, what: Any, offset: int) -> int:
        rest = memoryview(what).cast("B")
        return int(death.write(len(rest), lambda done: PWRITE(descriptor, rest[:done], offset)))

    def punch_hole(descriptor: int, offset: int, length: int) -> None:
        pages = length // 4096
        death.write(pages, lambda done: PUNCH_HOLE(descriptor, offset, done * 4096))

    with patch.context() as patched, suppress(Killed):
        patched.setattr(os, "pwrite", pwrite)
        patched.setattr("clusterd.metrics.regions.arena.punch_hole", punch_hole)
        if arena is None:
            make = Arena.__init__

            def init(self: Arena, *args: Any, **options: Any) -> None:
                make(self, *args, **options)
                self._cells = Head(self._cells, death)  # type: ignore[assignment]

            patched.setattr(Arena, "__init__", init)
        else:
            patched.setattr(arena, "_cells", Head(vars(arena)["_cells"], death))
        yield
