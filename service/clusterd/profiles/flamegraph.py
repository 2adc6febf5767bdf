"""A flame graph as one SVG file, for browsers: a graph for each view, the outermost functions at the top.

The width of a box is its time. A click on it enlarges it to the whole width, and one on a graph's title shows all. It
is readable without scripts too: each box has its numbers as a tooltip.
"""

from collections.abc import Iterator
from dataclasses import field
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

from clusterd.profiles.profile import Frame, Profile, Stack, View
from clusterd.records import dataclass

WIDTH = 1200.0
ROW = 17
LEAST_WIDTH = 0.4
"""Narrower boxes are left out: they cannot be seen."""
_CHARACTER = 6.6
_GAP = 34

_STYLE = """
svg { background: #fff; font: 12px ui-monospace, monospace; } text { fill: #111; pointer-events: none; }
.title { font: bold 15px system-ui, sans-serif; } .view { font: 13px system-ui, sans-serif; pointer-events: auto; }
rect { stroke: #fff; stroke-width: .6; } g.box, .view { cursor: pointer; } g.box:hover rect { stroke: #000; }
@media (prefers-color-scheme: dark) {
  svg { background: #16181d; } .title, .view { fill: #e6e6e6; } rect { stroke: #16181d; }
  g.box:hover rect { stroke: #fff; }
}
"""
_SCRIPT = """
function show(view, left, width) {
  for (const box of view.querySelectorAll("g.box")) {
    const start = (box.dataset.x - left) / width * WIDTH, end = start + box.dataset.w / width * WIDTH;
    const x = Math.max(start, 0), w = Math.min(end, WIDTH) - x;
    box.style.display = w > LEAST ? "" : "none";
    const rect = box.querySelector("rect"), text = box.querySelector("text");
    rect.setAttribute("x", x); rect.setAttribute("width", Math.max(w, 0)); text.setAttribute("x", x + 3);
    const room = Math.floor((w - 6) / CHARACTER), name = box.dataset.name;
    text.textContent = room < 3 ? "" : name.length <= room ? name : name.slice(0, room - 1) + "\\u2026";
  }
}
document.addEventListener("click", event => {
  const view = event.target.closest("g.graph"), box = event.target.closest("g.box");
  if (box) show(view, +box.dataset.x, +box.dataset.w); else if (view) show(view, 0, WIDTH);
});
"""


@dataclass(slots=True)
class _Box:
    frame: Frame
    microseconds: int = 0
    own: int = 0
    below: dict[Frame, "_Box"] = field(default_factory=dict)


def flamegraph(profile: Profile, title: str) -> str:
    """Return the SVG document."""
    graphs, top = [], 60
    for view in profile.shown():
        graph, height = _graph(profile, view, top)
        graphs.append(graph)
        top += height
    script = _SCRIPT.replace("WIDTH", f"{WIDTH:g}").replace("LEAST", f"{LEAST_WIDTH:g}")
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 20:g} {top}" width="{WIDTH + 20:g}">',
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="10" y="26">{_text(title)}</text>',
            f'<text class="view" x="10" y="46">{_text(_about(profile))}</text>',
            *graphs,
            f"<script><![CDATA[{script.replace('CHARACTER', f'{_CHARACTER:g}')}]]></script>",
            "</svg>",
            "",
        ]
    )


def _about(profile: Profile) -> str:
    parts = [f"{profile.seconds:.1f} s", f"{profile.looks} looks"]
    if profile.dumps:
        parts.append(f"{profile.dumps} at signals, as the event loop did not turn")
    if profile.cut:
        parts.append(f"{profile.cut} stacks were cut")
    return "; ".join(parts)


def _graph(profile: Profile, view: View, top: int) -> tuple[str, int]:
    """Return a graph that begins at `top`, and its height."""
    root = _tree(profile.stacks(view))
    boxes = list(_boxes(root, 0.0, WIDTH / root.microseconds, 0))
    rows = 1 + max(row for *_, row in boxes)
    lines = [f'<g class="graph" transform="translate(10 {top})">']
    lines.append(f'<text class="view" x="0" y="14">{_text(f"{view.value}: {_seconds(root.microseconds)}")}</text>')
    lines += [_drawn(box, x, width, row, root.microseconds) for box, x, width, row in boxes]
    return "\n".join([*lines, "</g>"]), rows * ROW + _GAP


def _tree(stacks: list[tuple[Stack, int]]) -> _Box:
    root = _Box(Frame(""))
    for stack, microseconds in stacks:
        box = root
        box.microseconds += microseconds
        for frame in stack:
            box = box.below.setdefault(frame, _Box(frame))
            box.microseconds += microseconds
        box.own += microseconds
    return root


def _boxes(box: _Box, x: float, scale: float, row: int) -> Iterator[tuple[_Box, float, float, int]]:
    """Yield the boxes below `box`, each with its place."""
    for each in box.below.values():
        width = each.microseconds * scale
        if width >= LEAST_WIDTH:
            yield each, x, width, row
            yield from _boxes(each, x, scale, row + 1)
        x += width


def _drawn(box: _Box, x: float, width: float, row: int, whole: int) -> str:
    name, y = box.frame.name, 20 + row * ROW
    room = int((width - 6) / _CHARACTER)
    shown = "" if room < 3 else name if len(name) <= room else f"{name[: room - 1]}\u2026"
    share = f"{box.microseconds / whole:.1%}, itself {box.own / whole:.1%}"
    tip = f"{box.frame.label}\n{_seconds(box.microseconds)} ({share})"
    return (
        f'<g class="box" data-x="{x:.2f}" data-w="{width:.2f}" data-name={quoteattr(_clean(name))}>'
        f"<title>{_text(tip)}</title>"
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2" fill="{_colour(box.frame)}"/>'
        f'<text x="{x + 3:.2f}" y="{y + 12}">{_text(shown)}</text></g>'
    )


def _colour(frame: Frame) -> str:
    """Grey for clusterd, and for names; else a warm colour that is the same for all functions of a file."""
    if not frame.path:
        return "#b9bec7"
    if "/clusterd/" in frame.path:
        return "#c9cfd8"
    hue, lightness = (crc32(text.encode(errors="replace")) for text in (frame.path, frame.name))
    return f"hsl({hue % 50 + 5} 85% {lightness % 10 + 68}%)"


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1e6:.3f} s"


def _text(text: str) -> str:
    return escape(_clean(text))


def _clean(text: str) -> str:
    """Replace what XML cannot have (https://www.w3.org/TR/xml/#charsets)."""
    return "".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in text)
