"""The parts of the page: what is true now, the last 15 minutes, the limits, a rollout, the slots and the events."""

import time

from clusterd.dashboard import words
from clusterd.dashboard.history import SAMPLES
from clusterd.dashboard.model import About, Bar, Dashboard, EventLine, RolloutProgress, Totals
from clusterd.dashboard.page import charts
from clusterd.dashboard.page.escaping import escape
from clusterd.dashboard.page.workers import workers


def title(about: About) -> str:
    """Return the name of the service."""
    return f"clusterd@{about.instance}" if about.instance else "clusterd"


def everything(dashboard: Dashboard) -> str:
    """Return the contents of <main>."""
    parts = (
        _head(dashboard.about, dashboard.totals),
        rollout(dashboard.rollout),
        _tiles(dashboard),
        _bars(dashboard.bars),
        workers(dashboard.slots),
        _events(dashboard.events),
    )
    return "\n".join(filter(None, parts))


def _head(about: About, totals: Totals) -> str:
    if about.not_ready:
        state, word = "bad", "Not ready"
    elif totals.ready < totals.wanted:
        state, word = "warn", f"{totals.ready} of {totals.wanted} ready"
    else:
        state, word = "good", "Ready"
    facts = (
        ("host", about.host),
        ("version", about.version),
        ("master", f"pid {about.pid}"),
        ("up", words.duration(about.uptime)),
        ("as of", clock(about.at)),
    )
    shown = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
    # The status says it too when no worker answers.
    why = about.not_ready if about.not_ready and about.not_ready not in about.status else None
    return (
        f'<header><h1>{escape(title(about))} <strong class="pill {state}">{word}</strong></h1><dl>{shown}</dl></header>'
        f'<p class="status {"" if why else state}">{escape(about.status)}</p>'
        + (f'<p class="status bad">{escape(why)}</p>' if why else "")
        + (f'<p class="status">{escape(about.hooks)}</p>' if about.hooks else "")
    )


def clock(at: float) -> str:
    """Return the time of day at the server."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def rollout(progress: RolloutProgress | None) -> str:
    """Return how far a rollout has got; nothing if none is under way."""
    if progress is None:
        return ""
    what = f"Rollout of generation {progress.generation}" if progress.generation else "Rollout"
    said = f"{progress.phase}"
    if progress.steps:
        said = f"{progress.replaced} of {words.plural(len(progress.steps), 'worker')} replaced"
    share = progress.replaced / len(progress.steps) if progress.steps else 0.0
    steps = [(step.state, f"slot {step.slot}: {step.state}") for step in progress.steps]
    return (
        f'<section class="panel rollout" aria-label="Rollout"><h2>{what}</h2><p>{escape(said)}</p>'
        f'<progress value="{share:.4g}" max="1">{words.percent(share)}</progress>{charts.squares(steps, "steps")}'
        "</section>"
    )


def _tiles(dashboard: Dashboard) -> str:
    totals, points, now = dashboard.totals, dashboard.points, dashboard.totals.activity
    failed = now.errors / now.requests if now.requests else None
    tiles = (
        _tile("Requests a second", words.rate(now.rate), "", [("rate", [each.rate for each in points])], words.rate),
        _tile(
            "Latency p99",
            words.latency(now.p99),
            f"median {words.latency(now.p50)}" if now.p50 is not None else "no requests",
            [("p99", [each.p99 for each in points]), ("p50", [each.p50 for each in points])],
            words.latency,
        ),
        _tile(
            "Errors, last minute",
            words.count(now.errors),
            f"{words.percent(failed)} of {words.count(now.requests)}" if failed is not None else "no requests",
            [("errors", [each.errors for each in points])],
            lambda value: f"{words.rate(value)}/s",
        ),
        _tile(
            "In flight",
            words.count(totals.in_flight),
            f"{words.count(totals.queue)} wait for a thread",
            [("load", [each.in_flight for each in points]), ("queue", [each.queue for each in points])],
            words.count,
        ),
        _tile(
            "Memory",
            words.memory(totals.memory),
            "resident",
            [("memory", [each.memory for each in points])],
            lambda value: words.memory(int(value)),
        ),
        _ready(totals, dashboard),
    )
    return f'<section class="tiles" aria-label="Now, and the last 15 minutes">{"".join(tiles)}</section>'


def _tile(name: str, value: str, beside: str, lines: list[tuple[str, list[float | None]]], say: words.Say) -> str:
    highest = max((each for _, values in lines for each in values if each is not None), default=None)
    peak = f"peak {say(highest)}" if highest is not None else "no history yet"
    chart = charts.sparkline(f"{name}, {peak}", lines, SAMPLES)
    return (
        f'<article class="panel tile"><h2>{name}</h2><p class="value">{value} <small>{beside}</small></p>{chart}'
        f'<p class="scale"><span>15 min</span><span>{peak}</span></p></article>'
    )


def _ready(totals: Totals, dashboard: Dashboard) -> str:
    states = [(slot.state, f"slot {slot.number}: {slot.state}") for slot in dashboard.slots]
    restarts = words.plural(totals.restarts, "restart") + " since the start"
    return (
        f'<article class="panel tile"><h2>Workers ready</h2><p class="value">{totals.ready} '
        f"<small>of {totals.wanted}</small></p>{charts.squares(states, 'slots')}"
        f'<p class="scale"><span>{restarts}</span></p></article>'
    )


def _bars(bars: tuple[Bar, ...]) -> str:
    if not bars:
        return ""
    shown = "".join(map(_bar, bars))
    return f'<section class="panel bars" aria-label="Limits"><h2>Used of the limits</h2>{shown}</section>'


def _bar(bar: Bar) -> str:
    text = words.used(bar.used, bar.limit, bar.unit)
    return f"<div><span>{bar.name}</span>{charts.bar(f'{bar.name}: {text}', bar.share)}<span>{text}</span></div>"


def _events(events: tuple[EventLine, ...]) -> str:
    lines = "".join(
        f'<li class="{"bad" if each.is_failure else ""}"><time>{clock(each.time)}</time> '
        f"<b>{escape(each.name)}</b> <span>{escape(each.text)}</span></li>"
        for each in events
    )
    return f'<section class="panel events" aria-label="Events"><h2>Last events</h2><ol>{lines}</ol></section>'
