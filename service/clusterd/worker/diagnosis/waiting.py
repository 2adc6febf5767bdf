"""Samples what the tasks of the event loop, and the greenlets, wait for. It does so on the loop's thread.

Nothing changes for a task while its loop is blocked, so such a time counts for the places where the tasks wait.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from time import monotonic, monotonic_ns
from types import CodeType
from typing import Any, TypeVar
from weakref import WeakSet

from clusterd.http.engine import InFlight
from clusterd.http.hidden_loop import started
from clusterd.http.wsgi.on_loop import ROOT_TASK
from clusterd.process.where import awaited_frames
from clusterd.profiles.call_tree import GREENLETS, ROOT, TASKS, CallTree
from clusterd.runtime.hub import greenlets, is_used
from clusterd.worker.diagnosis.sampling import MOST_DEPTH, codes_of

PERIOD_SECONDS = 0.02
MOST_SHARE = 0.005
"""Of the loop's time, that looks may take. If they would take more, they are less frequent."""
MOST_AT_ONCE = 500
"""The most tasks of one look. Of more of them some are chosen at random, which stand for the others."""
FIND_SECONDS = 1.0
"""The least time between two searches for greenlets, which look at every object of the process."""

_Item = TypeVar("_Item")


class WaitingSampler:
    """Begins at once. Ends at `until`, by time.monotonic(), or when it is told to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, requests: Callable[[], list[InFlight]], until: float) -> None:
        self.tree = CallTree()
        self._loop = loop
        self._requests = requests
        self._until = until
        self._tasks = self.tree.named(ROOT, TASKS)
        self._greenlets = self.tree.named(ROOT, GREENLETS) if is_used() else ROOT
        self._known: WeakSet[Any] = WeakSet()
        """Greenlets that were found. Those of requests are known without a search."""
        self._find_at = 0.0
        self._random = Random()
        self._last = monotonic_ns()
        self._timer: asyncio.Handle = loop.call_soon(self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = monotonic_ns()
        elapsed, self._last = now - self._last, now
        tasks = [task for task in asyncio.all_tasks(self._loop) if task.get_name() != ROOT_TASK]
        self._add(self._tasks, elapsed, tasks, _codes_of_task)
        if self._greenlets != ROOT:
            self._add(self._greenlets, elapsed, list(self._living_greenlets()), _codes_of_greenlet)
        after = monotonic()
        pause = max(PERIOD_SECONDS, (after - now / 1e9) / MOST_SHARE)
        if after + pause < self._until:
            self._timer = self._loop.call_later(pause, self._look)

    def _add(
        self, root: int, elapsed: int, items: Sequence[_Item], codes: Callable[[_Item], Sequence[CodeType]]
    ) -> None:
        chosen = items if len(items) <= MOST_AT_ONCE else self._random.sample(items, MOST_AT_ONCE)
        for item in chosen:
            if path := codes(item):
                self.tree.add(self.tree.path(root, path), elapsed * len(items) // len(chosen))

    def _living_greenlets(self) -> Iterator[Any]:
        began = monotonic()
        if began >= self._find_at:
            self._known.update(greenlets())
            self._find_at = monotonic() + max(FIND_SECONDS, (monotonic() - began) / MOST_SHARE)
        of_requests = [each.runs_in for each in self._requests() if hasattr(each.runs_in, "gr_frame")]
        return _once([*of_requests, *self._known])


def _once(items: Iterable[Any]) -> Iterator[Any]:
    return iter({id(item): item for item in items}.values())


def _codes_of_task(task: "asyncio.Task[Any]") -> Sequence[CodeType]:
    codes: list[CodeType] = []
    for frame in awaited_frames(started(task.get_coro())):
        codes.append(frame.f_code)
        if len(codes) == MOST_DEPTH:
            break
    return codes


def _codes_of_greenlet(greenlet: Any) -> Sequence[CodeType]:
    return codes_of(greenlet.gr_frame)  # None where it has not begun, or is the one that runs.
