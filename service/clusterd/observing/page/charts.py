"""Charts as SVG. A strict Content-Security-Policy allows no `style` attributes, so they use SVG's own and classes."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

WIDTH = 180
"""Of a sparkline, in its own units: one for each value of 15 minutes."""
HEIGHT = 40

Values = Sequence[float | None]


def sparkline(label: str, lines: Sequence[tuple[str, Values]], slots: int, highest: float = 0) -> str:
    """Return a chart with a line for each pair of a class and its values. Of the first, the area is filled too.

    `slots` is how many values are as wide as the chart. The newest value is at the right, so that a short history does
    not look like a long one. A value of None leaves a gap. `highest` is the value at the top, by default the highest.
    """
    highest = highest or max((value for _, values in lines for value in values if value is not None), default=0) or 1
    drawn = []
    for number, (kind, values) in enumerate(lines):
        runs = list(_runs(values, slots, highest))
        if number == 0:
            drawn += [f'<path class="area {kind}" d="{_area(run)}"/>' for run in runs if len(run) > 1]
        drawn += [f'<path class="line {kind}" d="{_line(run)}"/>' for run in runs]
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>{"".join(drawn)}</svg>'
    )


def _runs(values: Values, slots: int, highest: float) -> Iterator[list[tuple[float, float]]]:
    """Yield the points between two gaps."""
    step = WIDTH / max(1, slots - 1)
    first = WIDTH - step * (len(values) - 1)
    run: list[tuple[float, float]] = []
    for number, value in enumerate(values):
        if value is not None:
            run.append((first + step * number, HEIGHT - 1 - (HEIGHT - 3) * value / highest))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _line(run: Sequence[tuple[float, float]]) -> str:
    if len(run) == 1:  # A path of one point is invisible.
        (x, y) = run[0]
        run = [(x - 0.5, y), (x + 0.5, y)]
    return "M" + "L".join(_points(run))


def _area(run: Sequence[tuple[float, float]]) -> str:
    return f"M{run[0][0]:.4g},{HEIGHT}L{'L'.join(_points(run))}L{run[-1][0]:.4g},{HEIGHT}Z"


def _points(run: Iterable[tuple[float, float]]) -> Iterator[str]:
    return (f"{x:.4g},{y:.3g}" for x, y in run)


def bar(label: str, share: float) -> str:
    """Return a horizontal bar that is filled up to `share`, from 0 to 1."""
    kind = "bad" if share >= 0.9 else "warn" if share >= 0.7 else "good"
    return (
        f'<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<rect class="track" width="100" height="8"/><rect class="{kind}" width="{100 * share:.4g}" height="8"/></svg>'
    )


def squares(states: Sequence[tuple[str, str]], kind: str) -> str:
    """Return a square for each pair of a class and a text that is shown while the pointer is over it."""
    drawn = [f'<li class="{escape(state)}" title="{escape(text)}"></li>' for state, text in states]
    return f'<ul class="{kind}">{"".join(drawn)}</ul>'
