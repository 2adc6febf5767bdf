"""What the memory of this process is used for: where it was allocated in a while, and how many objects there are.

Everything here runs in a native thread of its own, and does its work in slices, between which it rests. What cannot be
divided is the copying of the list of all objects, and of the list of allocations: each one call of Python's, during
which no other thread of the process runs.
"""

import gc
import json
import linecache
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from itertools import islice
from time import monotonic
from typing import Any, Final

from clusterd.metrics.kernel.procfs import process_memory
from clusterd.records import dataclass
from clusterd.runtime import originals

VERSION: Final = 1
FRAMES: Final = 8
"""How much of the stack is kept of an allocation."""
MOST_SITES: Final = 50
MOST_TYPES: Final = 50
MOST_CHARACTERS: Final = 300
MOST_TRACE_BYTES: Final = 8 << 20
"""What tracemalloc may need for its records, of 53 bytes each. It ends then: to copy 100,000 of them takes 50 ms."""
OBJECTS_AT_ONCE: Final = 10_000
TRACES_AT_ONCE: Final = 1_000
_REST_SECONDS: Final = 0.002
_LOOK_EVERY_SECONDS: Final = 0.1


@dataclass(slots=True)
class _Site:
    """What was allocated in one line."""

    size: int = 0
    count: int = 0
    stacks: Counter[tuple[tuple[str, int], ...]] = field(default_factory=Counter)
    """Bytes by stack, the innermost line first."""


class Allocations:
    """Examines the memory of this process."""

    def __init__(self) -> None:
        self._pause = originals.Lock()
        self._pause.acquire()
        self._is_tracing = False

    def examine(self, until: float, is_called_off: Callable[[], bool]) -> bytes:
        """Return what was allocated until then, by time.monotonic(), and is still in use, as JSON. Blocks."""
        memory, types = process_memory(os.getpid()), self._types()
        began = monotonic()
        is_the_applications = tracemalloc.is_tracing()
        if not is_the_applications:
            self._is_tracing = True
            tracemalloc.start(FRAMES)
        try:
            while monotonic() < until and not is_called_off() and not self._is_full():
                self._rest(min(_LOOK_EVERY_SECONDS, max(0.0, until - monotonic())))
            is_cut = self._is_full()
            seconds = monotonic() - began
            snapshot = tracemalloc.take_snapshot()
        finally:
            self.stop_tracing()
        allocated, sites = self._largest_sites(snapshot)
        del snapshot  # Its records would be counted.
        after = self._types()
        memory_after = process_memory(os.getpid())
        document = {
            "version": VERSION,
            "seconds": seconds,
            "is_cut": is_cut,
            "traced_by_application": is_the_applications,
            "sites": sites,
            "allocated": allocated,
            "objects": sum(after.values()),
            "frozen": gc.get_freeze_count(),
            "types": [[name, after[name], after[name] - types[name]] for name in _largest(types, after)],
            "private_bytes": [each.private_bytes if each else 0 for each in (memory, memory_after)],
            "pss_bytes": [each.pss_bytes if each else 0 for each in (memory, memory_after)],
        }
        return json.dumps(document).encode()

    def stop_tracing(self) -> None:
        """Stop tracemalloc, unless the application has started it. Also for a forked child, which inherits it."""
        if self._is_tracing:
            self._is_tracing = False
            tracemalloc.stop()

    def _is_full(self) -> bool:
        return self._is_tracing and tracemalloc.get_tracemalloc_memory() > MOST_TRACE_BYTES

    def _rest(self, seconds: float = _REST_SECONDS) -> None:
        self._pause.acquire(timeout=seconds)

    def _slices(self, items: Iterable[Any], at_once: int) -> Iterator[list[Any]]:
        rest = iter(items)
        while found := list(islice(rest, at_once)):
            yield found
            self._rest()

    def _types(self) -> Counter[str]:
        """The number of objects by type, as far as they are known to the garbage collector."""
        kinds: Counter[type] = Counter()
        for objects in self._slices(gc.get_objects(), OBJECTS_AT_ONCE):
            kinds.update(map(type, objects))
        names: Counter[str] = Counter()
        for kind, count in kinds.items():
            names[f"{kind.__module__}.{kind.__qualname__}"[:MOST_CHARACTERS]] += count
        return names

    def _largest_sites(self, snapshot: tracemalloc.Snapshot) -> tuple[int, list[dict[str, Any]]]:
        """Return the bytes of all allocations together, and the largest sites as they are written."""
        sites: dict[tuple[str, int], _Site] = {}
        for traces in self._slices(snapshot.traces, TRACES_AT_ONCE):
            for trace in traces:
                # tracemalloc has the innermost last.
                stack = tuple((frame.filename, frame.lineno) for frame in reversed(trace.traceback))
                if stack[0][0] == __file__:
                    continue
                site = sites.setdefault(stack[0], _Site())
                site.size += trace.size
                site.count += 1
                site.stacks[stack] += trace.size
        largest = sorted(sites.values(), key=lambda each: -each.size)[:MOST_SITES]
        return sum(site.size for site in sites.values()), [_shown(site) for site in largest]


def _largest(before: Counter[str], after: Counter[str]) -> list[str]:
    """The names of the types with the most objects, and of those that have grown most."""
    grown = after - before
    names = [name for name, _ in (*after.most_common(MOST_TYPES // 2), *grown.most_common(MOST_TYPES // 2))]
    return list(dict.fromkeys(names))


def _shown(site: _Site) -> dict[str, Any]:
    ((stack, _),) = site.stacks.most_common(1)
    lines = [
        [path[-MOST_CHARACTERS:], number, linecache.getline(path, number).strip()[:MOST_CHARACTERS]]
        for path, number in stack
    ]
    return {"size": site.size, "count": site.count, "stack": lines}
