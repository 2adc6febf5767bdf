"""The screen of `clusterctl top`, on terminals of every size."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console, ConsoleDimensions

from clusterd.cli import terminal
from clusterd.cli.top.blocks import sparkline
from clusterd.cli.top.screen import KEYS, draw
from clusterd.dashboard.model import Dashboard
from tests.support.dashboards import DASHBOARD, READY

pytestmark = pytest.mark.engine_independent


def screen(
    dashboard: Dashboard = DASHBOARD, width: int = 80, height: int = 24, sort: str = "slot", failure: str = ""
) -> list[str]:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    console = Console(file=out, force_terminal=True, width=width, height=height, markup=False, highlight=False)
    console.print(draw(console, dashboard, sort, failure))
    out.seek(0)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.read()).splitlines()


def test_a_usual_terminal_shows_everything() -> None:
    text = "\n".join(screen(height=40))
    for part in (
        "clusterd@shop ready",
        "1 of 2 workers, 7 restarts",
        "Reloading: generation 2, 1 of 2 workers replaced",
        "generation 2: 1 of 2 replaced",
        "requests/s         1,234",
        "p99               240 ms  p50 0.77 ms",
        "peak 0.5/s",
        "limits: threads 4 of 4, queue 3 of 100, memory of worker 1 480M of 512M",
        "slot 2: next try in 7.5s, failed 5 times: RuntimeError: no database",
        "q quits",
    ):
        assert part in text, text
    assert re.search(r"^ +1  ready +102 +59.9s +1,234 ", text, re.MULTILINE)
    assert re.search(r"^ +draining +101 +1h2m ", text, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d  exit  slot=2 how=", text, re.MULTILINE)
    assert "\033" not in text and "None" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_shows_what_it_can(encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = terminal.console(out)
    console.size = ConsoleDimensions(60, 24)
    console.print(draw(console, DASHBOARD))
    out.seek(0)
    assert "clusterd@shop" in out.read()


def test_a_wide_terminal_has_the_limits_beside_the_numbers() -> None:
    assert any(line.rstrip().endswith("480M of 512M") for line in screen(width=130, height=30))
    assert any(line.startswith("limits: ") for line in screen(width=129, height=30))


def test_it_fits_whatever_screen_there_is_and_fills_it() -> None:
    many = replace(DASHBOARD, slots=DASHBOARD.slots * 50, events=DASHBOARD.events * 10)
    for dashboard in (DASHBOARD, many):
        for width in (20, 40, 80, 129, 130, 200):
            for height in (8, 13, 14, 24, 60):
                lines = screen(dashboard, width, height)
                assert len(lines) == height or height < 24, (width, height)
                assert max(map(len, lines)) <= width, (width, height)
                assert lines[-1].startswith("q quits")
    assert any(re.search(r"\.\.\. and \d+ more", line) for line in screen(many))
    for width, height in ((1, 1), (3, 2), (10, 5)):
        assert screen(many, width, height)


def test_it_is_sorted_by_what_is_asked_for() -> None:
    busier = replace(READY, number=3, activity=replace(READY.activity, rate=9999.0), others=())
    dashboard = replace(DASHBOARD, slots=(*DASHBOARD.slots, busier), rollout=None)
    for sort, slots in (("slot", ["1", "2", "3"]), ("rate", ["3", "1", "2"]), ("age", ["1", "3", "2"])):
        lines = screen(dashboard, 120, 40, sort)
        rows = [line.split() for line in lines]
        titles = next(number for number, row in enumerate(rows) if row[1:2] == ["state"])
        assert sort.upper() in lines[titles] or (sort == "rate" and "REQ/S" in lines[titles])
        assert [row[0] for row in rows[titles + 1 : titles + 5] if row[0].isdigit()] == slots
    assert all(screen(sort=sort) for sort in KEYS.values())


def test_a_service_that_has_gone_is_said_to_have() -> None:
    lines = screen(failure="/run/x.sock: no process listens: clusterd is not running")
    assert "clusterd is not running" in lines[1]


def test_a_line_of_blocks_has_the_newest_at_its_right() -> None:
    assert sparkline([], 10, 5, plain=False) == ""
    assert sparkline([1.0], 10, 0, plain=False) == ""
    assert sparkline([0, 1, None, 2], 8, 8, plain=False) == "    ▁▅ █"
    assert sparkline([0, 4], 2, 2, plain=True) == "_#"
    assert sparkline([None, None], 2, 2, plain=True) == "  "
