"""Charts as SVG. A strict Content-Security-Policy allows no `style` attributes, so they use SVG's own and classes."""

from collections.abc import Iterator, Sequence

from clusterd.dashboard.page.escaping import escape

HEIGHT = 100
"""Of a sparkline, in its own units, in which every number is whole. A value is one unit wide."""
_FEW = 16
"""More squares than this are smaller."""

Values = Sequence[float | None]


def sparkline(label: str, lines: Sequence[tuple[str, Values]], slots: int, highest: float = 0) -> str:
    """Return a chart with a line for each pair of a class and its values. Of the first, the area is filled too.

    `slots` is how many values are as wide as the chart. The newest value is at the right, so that a short history does
    not look like a long one. A value of None leaves a gap. `highest` is the value at the top, by default the highest.
    """
    highest = highest or max((value for _, values in lines for value in values if value is not None), default=0) or 1
    drawn = []
    for number, (kind, values) in enumerate(lines):
        for first, points in _runs(values, slots, highest):
            if number == 0 and len(points) > 1:
                last = first + len(points) - 1
                drawn.append(f'<path class="area {kind}" d="M{first},{HEIGHT}L{"L".join(points)}L{last},{HEIGHT}Z"/>')
            # A line of one point would be invisible.
            line = "L".join(points) if len(points) > 1 else f"{points[0]}h.5"
            drawn.append(f'<path class="line {kind}" d="M{line}"/>')
    return (
        f'<svg class="spark" viewBox="0 0 {slots - 1} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}"><title>{escape(label)}</title>{"".join(drawn)}</svg>'
    )


def _runs(values: Values, slots: int, highest: float) -> Iterator[tuple[int, list[str]]]:
    """Yield where a line begins, and its points up to the next gap."""
    first, scale = slots - len(values), (HEIGHT - 4) / highest
    run: list[str] = []
    for number, value in enumerate(values, start=first):
        if value is not None:
            run.append(f"{number},{HEIGHT - 2 - int(scale * value)}")
        elif run:
            yield number - len(run), run
            run = []
    if run:
        yield slots - len(run), run


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
    many = " many" if len(states) > _FEW else ""
    return f'<ul class="{kind}{many}">{"".join(drawn)}</ul>'
