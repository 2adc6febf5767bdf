"""The screen: which blocks there are, and how many lines each gets."""

import dataclasses
from collections.abc import Callable, Sequence

from rich.console import Console, Group

from clusterd.cli import terminal
from clusterd.cli.tables import Column
from clusterd.cli.top import blocks
from clusterd.cli.top.blocks import Block
from clusterd.dashboard import words
from clusterd.dashboard.history import SAMPLES, SLOT_SAMPLES
from clusterd.dashboard.model import Dashboard, Process, Slot

COLUMNS = (
    Column("slot", "slot"),
    Column("state", "state", is_number=False),
    Column("pid", "pid", 2),
    Column("age", "age", 4),
    Column("rate", "req/s"),
    Column("in_flight", "in flight", 5),
    Column("queue", "queue", 6),
    Column("p50", "p50", 8),
    Column("p99", "p99", 1),
    Column("errors", "5xx", 1),
    Column("connections", "conns", 9),
    Column("cpu", "cpu", 3),
    Column("memory", "memory", 3),
    Column("restarts", "restarts", 7),
    Column("generation", "gen", 7),
    Column("trend", "req/s, 15 min", 10, is_number=False),
)
_HELP = "q quits; sort by: s slot, r req/s, l p99, e 5xx, c conns, p cpu, m memory, a age"
_FEW = 14
"""A screen with fewer lines has only the table."""
_EVENTS = 5
"""How many events stay on the screen when there are many workers."""
_TREND_WIDTH = SAMPLES // SLOT_SAMPLES

_SORTED: dict[str, Callable[[Slot], float]] = {
    "slot": lambda slot: -slot.number,
    "rate": lambda slot: slot.activity.rate or 0,
    "p99": lambda slot: slot.activity.p99 or 0,
    "errors": lambda slot: slot.activity.errors,
    "connections": lambda slot: slot.worker.connections if slot.worker else -1,
    "cpu": lambda slot: slot.activity.cpu or 0,
    "memory": lambda slot: (slot.worker.memory or 0) if slot.worker else -1,
    "age": lambda slot: slot.worker.age if slot.worker else -1,
}
KEYS = {"s": "slot", "r": "rate", "l": "p99", "e": "errors", "c": "connections", "p": "cpu", "m": "memory", "a": "age"}
"""What the keys sort by: a column, the largest value first, or the slots in their order."""


def draw(console: Console, dashboard: Dashboard, sort: str = "slot", failure: str = "") -> Group:
    """Return the whole screen. `failure` is why the dashboard is old, and empty if it is not."""
    width, height = console.size
    plain = not console.encoding.startswith("utf")
    shown = _above(console, dashboard, failure, plain=plain)
    room = height - sum(block.height for block in shown) - 1
    slots = sorted(dashboard.slots, key=_SORTED[sort], reverse=True)
    rows = [row for slot in slots for row in _rows(slot, plain=plain)]
    why = [slot for slot in dashboard.slots if slot.waiting is not None][: max(1, room // 4)]
    events = min(len(dashboard.events), max(_EVENTS, room - len(rows) - len(why) - 2)) if height >= _FEW else 0
    lines = max(1, room - len(why) - (events + 1 if events else 0))
    shown += [_table(rows, sort, lines, width), *map(_why, why)]
    if events:
        shown += [Block("", 1), blocks.events(dashboard.events[:events])]
    filler = height - sum(block.height for block in shown) - 1
    shown += [Block("", 1)] * max(0, filler)
    return Group(*(block.content for block in shown), blocks.line(_HELP, "dim"))


def _above(console: Console, dashboard: Dashboard, failure: str, *, plain: bool) -> list[Block]:
    """Return what stands above the table."""
    width, height = console.size
    shown = [
        blocks.title(dashboard.about, dashboard.totals),
        blocks.status(console, dashboard.about, failure, most=3 if height >= _FEW else 1),
    ]
    if height >= _FEW:
        if dashboard.rollout is not None:
            shown.append(blocks.rollout(dashboard.rollout, width, plain=plain))
        shown += [Block("", 1), blocks.numbers(dashboard, width, plain=plain), Block("", 1)]
    return shown


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table."""

    cells: dict[str, str]
    style: str


def _rows(slot: Slot, *, plain: bool) -> list[_Row]:
    """Return the line of a slot, and those of its predecessors."""
    now = slot.activity
    cells = {
        "slot": str(slot.number),
        "state": slot.state,
        "rate": words.rate(now.rate),
        "queue": words.count(slot.queue),
        "p50": words.latency(now.p50),
        "p99": words.latency(now.p99),
        "errors": words.count(now.errors),
        "cpu": words.percent(now.cpu),
        "restarts": words.count(slot.restarts),
        "generation": str(slot.generation),
        "trend": blocks.sparkline(slot.rates, _TREND_WIDTH, _TREND_WIDTH, plain=plain),
    }
    if slot.worker is not None:
        cells |= _process(slot.worker)
    others = [
        _Row({"state": each.state, "generation": str(each.generation), **_process(each)}, "dim") for each in slot.others
    ]
    return [_Row(cells, terminal.style_of(slot.state)), *others]


def _process(process: Process) -> dict[str, str]:
    return {
        "pid": words.NOTHING if process.pid is None else str(process.pid),
        "age": words.duration(process.age),
        "in_flight": words.count(process.in_flight),
        "connections": words.count(process.connections),
        "memory": words.memory(process.memory),
    }


def _table(rows: Sequence[_Row], sort: str, lines: int, width: int) -> Block:
    """Return the table in so many lines, and say how many rows are left out."""
    columns = [
        dataclasses.replace(column, title=column.title.upper() if column.key == sort else column.title)
        for column in COLUMNS
    ]
    shown = list(rows)
    if len(rows) > lines - 1:
        shown = list(rows[: max(0, lines - 2)])
        shown.append(_Row({"state": f"... and {len(rows) - len(shown)} more"}, "dim"))
    texts = [[row.cells.get(column.key, "") for column in columns] for row in shown]
    table = terminal.table(columns, texts, [row.style for row in shown], width)
    return Block(table, len(shown) + 1)


def _why(slot: Slot) -> Block:
    waiting = slot.waiting
    assert waiting is not None
    return Block(blocks.line(words.waiting(slot.number, waiting.retry_in, waiting.failures, waiting.reason), "red"), 1)
