"""Read the workers' rows, the counts of the dead and /proc: the numbers from which dashboards are made."""

import time
from collections import defaultdict

from clusterd.dashboard.history import Counters, Reading
from clusterd.master.context import MasterContext
from clusterd.metrics.kernel.procfs import cpu_and_memory
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.row import Row
from clusterd.records import dataclass
from clusterd.supervisor.model.table import Worker


@dataclass(frozen=True, slots=True)
class Living:
    """A worker that has not been reaped, and its numbers. `row` and `memory` are None while it is forked."""

    worker: Worker
    row: Row | None
    cpu_seconds: float
    memory: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """All workers at one moment, and the reading for the history."""

    living: tuple[Living, ...]
    reading: Reading


def look(context: MasterContext, ledger: Ledger) -> Look:
    """Read everything once. No worker is asked."""
    workers = sorted(context.cluster.table.workers.values(), key=lambda each: (each.slot, each.serial))
    living = tuple(_living(context, worker) for worker in workers)
    by_slot: defaultdict[int, list[Living]] = defaultdict(list)
    for each in living:
        by_slot[each.worker.slot].append(each)
    slots = sorted(by_slot.keys() | ledger.slots() | set(context.cluster.slots()))
    rows = [each.row for each in living if each.row is not None]
    reading = Reading(
        at=time.monotonic(),
        counters={slot: _counters(slot, by_slot.get(slot, []), ledger) for slot in slots},
        in_flight=sum(row.in_flight for row in rows),
        queue=sum(row.queue_length for row in rows),
        memory=sum(each.memory or 0 for each in living),
    )
    return Look(living, reading)


def _living(context: MasterContext, worker: Worker) -> Living:
    child = context.children.get(worker.serial)
    row = None if child is None or child.row is None else context.scoreboard.row(child.row)
    usage = None if worker.pid is None else cpu_and_memory(worker.pid)
    return Living(worker, row, *((0.0, None) if usage is None else usage))


def _counters(slot: int, living: list[Living], ledger: Ledger) -> Counters:
    totals = ledger.totals(slot, [each.row for each in living if each.row is not None])
    cpu_seconds = ledger.cpu_seconds(slot) + sum(each.cpu_seconds for each in living)
    responses = Row.responses.by_class(totals)
    durations = (counts for counts, _ in Row.responses.durations_by_class(totals).values())
    buckets = tuple(map(sum, zip(*durations, strict=True)))
    return Counters(sum(responses.values()), responses["5xx"], buckets, cpu_seconds)
