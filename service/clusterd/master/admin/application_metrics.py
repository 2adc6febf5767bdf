"""The application's own metrics: what the workers have counted, and what they are asked for at a scrape."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

from clusterd.config.model import Switch
from clusterd.master.children.child import Child
from clusterd.master.context import MasterContext
from clusterd.metrics.application.answer import MOST_BYTES, ToldMetric, decode
from clusterd.metrics.page.application_ledger import ApplicationLedger
from clusterd.metrics.page.application_page import Answer, ApplicationPage
from clusterd.metrics.page.negotiation import Form
from clusterd.metrics.page.pace import Pace
from clusterd.metrics.regions.arena import Lease
from clusterd.metrics.regions.reading import ArenaReader, Snapshot
from clusterd.records import dataclass
from clusterd.supervisor.model.states import WorkerState
from clusterd.wire.messages import TellMetrics
from clusterd.wire.packets import is_in_memory

_Piece = TypeVar("_Piece")

ANSWER_SECONDS = 0.5
"""How long a scrape waits for the answers of all workers together."""
MOST_LOGGED = 1000
"""How many warnings are remembered, so as not to be repeated."""


@dataclass(slots=True)
class _Asked:
    """The question to a worker, and the last answer."""

    answered: asyncio.Future[None]
    """Done when the last question is answered."""
    number: int = 0
    """Of the last question."""
    is_late: bool = False
    """A scrape has waited in vain for the answer."""
    unread: tuple[bytes, float] | None = None
    """The last answer and its time, until a page is made of it."""
    metrics: tuple[ToldMetric, ...] = ()
    told_at: float | None = None
    """When `metrics` were told, by time.monotonic(). None if it has told nothing."""


class ApplicationMetrics:
    """Keeps what the dead have counted, asks the living, and makes the page of both."""

    def __init__(self, context: MasterContext) -> None:
        self._children = context.children
        self._cluster = context.cluster
        self._configurations = context.configurations
        self._log = context.log
        self._reader = ArenaReader(context.arena)
        self._ledger = ApplicationLedger(context.arena, self._reader)
        self._page = ApplicationPage()
        self._rendering = asyncio.Lock()
        self._asked: dict[int, _Asked] = {}
        """By the serial of the worker."""
        self._last_number = time.monotonic_ns()
        """An earlier program of the master has used lower numbers."""
        self._logged: dict[tuple[object, str], None] = {}
        """What was logged, and of what, the oldest first."""

    # ---- deaths and imports

    def ended(self, child: Child) -> None:
        """Keep what a dead worker has counted. Call it before its row is released."""
        self._asked.pop(child.serial, None)
        if child.row is None:
            return
        try:
            folded = self._ledger.fold(child.row)
        except OSError as error:
            self._log.error(f"what a worker has counted for the application is lost: {error}", **child.fields())
        else:
            self._report_region(folded.lease, folded.damage, folded.dropped)

    def template_loaded(self, child: Child, descriptors: tuple[int, ...]) -> None:
        """Keep what an import has counted."""
        for descriptor in descriptors:
            try:
                self._ledger.fold_template(
                    _checked(descriptor), self._configurations.of(child.generation).metrics.series
                )
            except (OSError, ValueError) as error:
                self._log_once(f"what the import has counted cannot be kept: {error}", child.serial, **child.fields())

    def _log_once(self, what: str, of: object, **fields: object) -> None:
        if (of, what) in self._logged:
            return
        self._logged[of, what] = None
        if len(self._logged) > MOST_LOGGED:
            del self._logged[next(iter(self._logged))]
        self._log.warning(what, **fields)

    # ---- questions

    async def _ask_all(self) -> None:
        """Ask all workers, and wait for their answers, but not long, and not for one that has not answered before."""
        waited = [asked for child in self._serving() if not (asked := self._ask(child)).is_late]
        if waited:
            await asyncio.wait({asked.answered for asked in waited}, timeout=ANSWER_SECONDS)
            for asked in waited:
                asked.is_late = not asked.answered.done()

    def _serving(self) -> Iterator[Child]:
        """The workers that are ready and may have metrics, the newest of a slot last."""
        ready = self._cluster.table.in_state(WorkerState.READY)
        for worker in sorted(ready, key=lambda each: each.serial):
            child = self._children.get(worker.serial)
            if child is not None and self._configurations.of(child.generation).metrics.application is Switch.ON:
                yield child

    def _ask(self, child: Child) -> _Asked:
        """Ask a worker, unless it has not answered the last question. Then it answers every scrape that waits."""
        asked = self._asked.get(child.serial)
        if asked is None:
            asked = self._asked[child.serial] = _Asked(asyncio.get_running_loop().create_future())
        elif asked.answered.done():
            asked.answered = asyncio.get_running_loop().create_future()
        else:
            return asked
        self._last_number += 1
        asked.number = self._last_number
        self._children.send(child, TellMetrics(asked.number))
        return asked

    def told(self, child: Child, number: int, descriptors: tuple[int, ...]) -> None:
        """Take an answer."""
        asked = self._asked.get(child.serial)
        if asked is None or asked.number != number or asked.answered.done():
            return
        try:
            if descriptors:
                asked.unread = _read(descriptors[0]), time.monotonic()
            else:
                asked.metrics, asked.told_at, asked.unread = (), None, None
        except (OSError, ValueError) as error:
            self._refuse(child, error)
        asked.is_late = False
        asked.answered.set_result(None)

    def _refuse(self, child: Child, error: Exception) -> None:
        what = "a worker has told what are no metrics"
        self._log_once(what, child.serial, reason=str(error), **child.fields())

    async def _read_answers(self, pace: Pace) -> None:
        for child in list(self._serving()):
            asked = self._asked.get(child.serial)
            if asked is None or asked.unread is None:
                continue
            (answer, told_at), asked.unread = asked.unread, None
            try:
                most = self._configurations.of(child.generation).metrics.series
                asked.metrics = tuple(await _in_slices(decode(answer, most), pace))
                asked.told_at = told_at
            except ValueError as error:
                self._refuse(child, error)

    def _answers(self) -> dict[int, Answer]:
        """The last answers, by slot."""
        now, found = time.monotonic(), {}
        for child in self._serving():
            asked = self._asked.get(child.serial)
            if asked is not None and asked.told_at is not None:
                found[child.slot] = Answer(asked.metrics, max(0.0, now - asked.told_at))
        return found

    # ---- the page

    async def __call__(self, form: Form, pace: Pace) -> AsyncIterator[str]:
        """Yield the application's part of the page. A source of the page (`metrics.page.exposition.Source`)."""
        serving = self._cluster.serving
        if serving and self._configurations.of(serving).metrics.application is Switch.OFF:
            return
        await self._ask_all()
        async with self._rendering:
            await self._read_answers(pace)
            await _in_slices(self._reader.learn(), pace)
            snapshot = self._reader.read()
            is_open = form is Form.OPENMETRICS
            pieces = await _in_slices(self._page.lines(snapshot, self._answers(), is_open=is_open), pace)
            self._report(snapshot)
        for piece in pieces:
            yield piece

    def _report(self, snapshot: Snapshot) -> None:
        damages = self._reader.damages()
        for process in snapshot.processes:
            if process.lease is not None:
                self._report_region(process.lease, damages.pop(process.lease, ""), process.contents.dropped)
        for lease, damage in damages.items():
            self._report_region(lease, damage, 0)
        for name, why in self._page.left_out.items():
            self._log_once(f"the application's metric {name} is not on /metrics: {why}", "")

    def _report_region(self, lease: Lease, damage: str, dropped: int) -> None:
        fields = {"slot": lease.slot, "generation": lease.generation}
        if damage:
            what = f"the application's metrics of a worker are damaged, and not all of them counted: {damage}"
            self._log_once(what, lease.number, **fields)
        if dropped:
            what = "the application has more series than metrics.series allows: the rest is dropped"
            self._log_once(what, lease.generation, **fields)


def _read(descriptor: int) -> bytes:
    """Return what is in a file that a worker has sent. Raises OSError, ValueError."""
    size = os.fstat(_checked(descriptor)).st_size
    if size > MOST_BYTES:
        raise ValueError(f"an answer of {size} bytes; at most {MOST_BYTES} are read")
    return os.pread(descriptor, size, 0)


def _checked(descriptor: int) -> int:
    """Return the descriptor if it is one of a file in memory. Raises ValueError: another one may not let the master go.

    Any process may shorten the file meanwhile, so it is read with pread(2) and never mapped.
    """
    if not is_in_memory(descriptor):
        raise ValueError("what was sent is no file in memory")
    return descriptor


async def _in_slices(steps: Iterable[_Piece | None], pace: Pace) -> list[_Piece]:
    """Carry out the steps, and let the loop turn in between. Returns what they have yielded."""
    found = []
    for step in steps:
        if step:
            found.append(step)
        await pace.rest_if_due()
    return found
