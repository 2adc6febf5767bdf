"""The blocks of the screen: each is drawn by rich, and has a known height, so that a screen can be filled exactly."""

import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clusterd.cli import terminal
from clusterd.dashboard import words
from clusterd.dashboard.history import SAMPLES, Point
from clusterd.dashboard.model import About, Bar, Dashboard, EventLine, RolloutProgress, Totals
from clusterd.log.record import escaped
from clusterd.records import dataclass

WIDE = 130
"""From this width on, the limits stand beside the numbers."""

_LEVELS = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS = "_.:-=+*#"
_LEAST_CHART = 8
"""A chart that would be narrower is left out."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the screen, over its whole width."""

    content: RenderableType
    height: int


def line(text: str, style: str = "") -> Text:
    """Return text on one line, cut where the screen ends."""
    return Text(escaped(text), style, no_wrap=True, overflow="ellipsis")


def title(about: About, totals: Totals) -> Block:
    """Return the name of the service, and what is known of it as a whole."""
    name = f"clusterd@{about.instance}" if about.instance else "clusterd"
    word, style = ("not ready", "bold red") if about.not_ready else ("ready", "bold green")
    facts = f"  {totals.ready} of {words.plural(totals.wanted, 'worker')}, {words.plural(totals.restarts, 'restart')}"
    then = time.strftime("%H:%M:%S", time.localtime(about.at))
    more = f"  {about.host}  up {words.duration(about.uptime)}  version {about.version}  pid {about.pid}"
    whole = Text.assemble((name, "bold"), " ", (word, style), f"  {then}{facts}", (escaped(more), "dim"))
    whole.no_wrap, whole.overflow = True, "ellipsis"
    return Block(whole, 1)


def status(console: Console, about: About, failure: str, most: int) -> Block:
    """Return what the service does, and why it does not do what it should, in at most so many lines."""
    said = [(failure, "bold red")] if failure else [(about.status, "")]
    if about.not_ready and about.not_ready not in about.status:
        said.append((about.not_ready, "red"))
    if about.hooks:
        said.append((about.hooks, ""))
    lines = [each for text, style in said for each in Text(escaped(text), style).wrap(console, console.width)][:most]
    return Block(Group(*lines), len(lines))


def rollout(progress: RolloutProgress, width: int, *, plain: bool) -> Block:
    """Return how far a rollout has got."""
    if not progress.steps:
        return Block(line(f"rollout: {progress.phase}", "bold"), 1)
    steps = Text(no_wrap=True, overflow="ellipsis")
    for step in progress.steps:
        steps.append("#" if plain else "■", terminal.style_of(step.state))
    said = f"generation {progress.generation}: {progress.replaced} of {len(progress.steps)} replaced"
    drawn = ProgressBar(len(progress.steps), progress.replaced, width=max(4, min(30, width // 4)))
    table = _grid("left", "left", "left")
    table.add_row(Text(said, "bold"), drawn, steps)
    return Block(table, 1)


def numbers(dashboard: Dashboard, width: int, *, plain: bool) -> Block:
    """Return the numbers of all slots together with their last 15 minutes, and the limits beside or below them."""
    own = width * 2 // 3 if width >= WIDE else width
    table = _numbers(dashboard.totals, dashboard.points, own, plain=plain)
    if width >= WIDE:
        both = Table.grid(expand=True)
        both.add_column(ratio=2)
        both.add_column(ratio=1)
        both.add_row(table, _limits(dashboard.bars, width // 3))
        return Block(both, table.row_count)
    limits = [f"{bar.name} {words.used(bar.used, bar.limit, bar.unit)}" for bar in dashboard.bars]
    return Block(Group(table, line(f"limits: {', '.join(limits)}", "dim")), table.row_count + 1)


def _numbers(totals: Totals, points: Sequence[Point], width: int, *, plain: bool) -> Table:
    now = totals.activity
    failed = f"{words.percent(now.errors / now.requests)} of {words.count(now.requests)}" if now.requests else ""
    rows: tuple[tuple[str, str, str, list[float | None], words.Say], ...] = (
        ("requests/s", words.rate(now.rate), "", [each.rate for each in points], words.rate),
        ("p99", words.latency(now.p99), f"p50 {words.latency(now.p50)}", [p.p99 for p in points], words.latency),
        ("5xx, last minute", words.count(now.errors), failed, [p.errors for p in points], _a_second),
        (
            "in flight",
            words.count(totals.in_flight),
            f"{words.count(totals.queue)} queued",
            [point.in_flight for point in points],
            words.count,
        ),
        ("memory", words.memory(totals.memory), "", [point.memory for point in points], _memory),
    )
    peaks = [
        say(max(known)) if (known := [each for each in values if each is not None]) else "" for *_, values, say in rows
    ]
    peaks = [f"peak {peak}" if peak else "" for peak in peaks]
    first, second, third, fourth = (
        max(map(len, column)) + 2 for column in (*zip(*(row[:3] for row in rows), strict=True), peaks)
    )
    room = width - first - second - third - fourth
    table = _grid("left", "right", "left", "left", "left")
    for (name, value, beside, values, _), peak in zip(rows, peaks, strict=True):
        cells = [Text(name), Text(value, "bold")]
        if first + second + third <= width:
            cells.append(Text(beside, "dim"))
        if room >= _LEAST_CHART:
            drawn = sparkline(values, SAMPLES, min(SAMPLES, room - 2), plain=plain)
            cells += [Text(drawn, "cyan"), Text(peak, "dim")]
        table.add_row(*cells)
    return table


def _a_second(number: float) -> str:
    return f"{words.rate(number)}/s"


def _memory(number: float) -> str:
    return words.memory(int(number))


def _limits(bars: Sequence[Bar], width: int) -> Table:
    table = _grid("left", "left", "left")
    texts = [words.used(bar.used, bar.limit, bar.unit) for bar in bars]
    room = width - max((len(bar.name) + len(text) + 6 for bar, text in zip(bars, texts, strict=True)), default=0)
    for bar, text in zip(bars, texts, strict=True):
        style = "red" if bar.share >= 0.9 else "yellow" if bar.share >= 0.7 else "green"
        drawn = ProgressBar(1.0, bar.share, width=max(1, room), complete_style=style, finished_style=style)
        table.add_row(bar.name, drawn, text)
    return table


def events(lines: Sequence[EventLine]) -> Block:
    """Return the last events, each on one line."""
    table = _grid("left", "left", "left")
    for each in lines:
        clock = time.strftime("%H:%M:%S", time.localtime(each.time))
        style = "red" if each.is_failure else ""
        table.add_row(Text(clock, "dim"), Text(each.name, style or "bold"), line(each.text, style or "dim"))
    return Block(table, len(lines))


def sparkline(values: Sequence[float | None], slots: int, width: int, *, plain: bool) -> str:
    """Return values as a line of blocks: the newest at the right, a space where nothing is known.

    `slots` is how many values are as wide as the line.
    """
    if width <= 0 or not values:
        return ""
    highest = max((each for each in values if each is not None), default=0) or 1
    levels = _PLAIN_LEVELS if plain else _LEVELS
    padded = [None] * (slots - len(values)) + list(values)
    drawn = []
    for column in range(width):
        part = padded[column * slots // width : (column + 1) * slots // width]
        known = [each for each in part if each is not None]
        drawn.append(levels[round(max(known) / highest * (len(levels) - 1))] if known else " ")
    return "".join(drawn)


def _grid(*justified: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for justify in justified:
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=True)
    return table
