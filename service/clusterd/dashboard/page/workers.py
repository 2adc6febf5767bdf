"""The table of the slots: a row for each, further rows for predecessors, and why a slot has no worker."""

from clusterd.dashboard import words
from clusterd.dashboard.history import SAMPLES, SLOT_SAMPLES
from clusterd.dashboard.model import Process, Slot
from clusterd.dashboard.page import charts
from clusterd.dashboard.page.escaping import escape

_COLUMNS = (
    "slot",
    "state",
    "gen",
    "pid",
    "age",
    "req/s",
    "15 min",
    "in flight",
    "queue",
    "p50",
    "p99",
    "5xx",
    "cpu",
    "memory",
    "restarts",
)
_RATES = SAMPLES // SLOT_SAMPLES


def workers(slots: tuple[Slot, ...]) -> str:
    """Return the table."""
    titles = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    highest = max((rate for slot in slots for rate in slot.rates), default=0)
    rows = "".join(_rows(slot, highest) for slot in slots)
    return (
        f'<section class="panel workers" aria-label="Workers"><h2>Workers</h2>'
        f"<table><thead><tr>{titles}</tr></thead>{rows}</table></section>"
    )


def _rows(slot: Slot, highest: float) -> str:
    worker, now = slot.worker, slot.activity
    cells = (
        str(slot.number),
        f'<span class="state {slot.state}">{slot.state}</span>',
        str(slot.generation),
        _text(None if worker is None else worker.pid),
        words.duration(None if worker is None else worker.age),
        words.rate(now.rate),
        charts.sparkline(f"requests a second of slot {slot.number}", [("rate", slot.rates)], _RATES, highest),
        words.NOTHING if worker is None else words.count(worker.in_flight),
        words.count(slot.queue),
        words.latency(now.p50),
        words.latency(now.p99),
        words.count(now.errors),
        words.percent(now.cpu),
        words.memory(None if worker is None else worker.memory),
        words.count(slot.restarts),
    )
    shown = "".join(
        f'<td data-label="{name}"{" class=some" if name == "5xx" and now.errors else ""}>{cell}</td>'
        for name, cell in zip(_COLUMNS, cells, strict=True)
    )
    rows = [f'<tr class="{slot.state}">{shown}</tr>']
    if slot.waiting is not None:
        said = words.waiting(slot.number, slot.waiting.retry_in, slot.waiting.failures, slot.waiting.reason)
        rows.append(f'<tr class="why"><td colspan="{len(_COLUMNS)}">{escape(said)}</td></tr>')
    rows += [_beside(process) for process in slot.others]
    return f"<tbody>{''.join(rows)}</tbody>"


def _beside(process: Process) -> str:
    values = {
        "state": f'<span class="state {process.state}">{process.state}</span>',
        "gen": str(process.generation),
        "pid": _text(process.pid),
        "age": words.duration(process.age),
        "in flight": words.count(process.in_flight),
        "memory": words.memory(process.memory),
    }
    shown = "".join(
        f'<td data-label="{name}">{values[name]}</td>' if name in values else '<td class="empty"></td>'
        for name in _COLUMNS
    )
    return f'<tr class="beside">{shown}</tr>'


def _text(value: object) -> str:
    return words.NOTHING if value is None else str(value)
