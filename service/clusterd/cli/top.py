"""`clusterctl top`: shows the workers on a terminal, once a second."""

import curses
import os
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusterd.cli.asking import Unreachable
from clusterd.cli.tables import cell_of, status_line

EVERY_SECONDS = 1.0
COLUMNS = (
    ("slot", "slot", 4),
    ("pid", "pid", 7),
    ("state", "state", 9),
    ("age", "age", 6),
    ("restarts", "restarts", 8),
    ("rate", "req/s", 7),
    ("in_flight", "in flight", 9),
    ("connections", "conns", 5),
    ("cpu", "cpu%", 5),
    ("memory", "memory", 6),
    ("generation", "gen", 3),
)
"""The keys, the titles and the widths. Together they fit 80 columns."""
SORTED_BY = {"s": "slot", "r": "rate", "c": "connections", "m": "memory", "a": "age", "p": "cpu"}
_HELP = "q quits; sort by: s slot, r requests/s, c connections, p cpu, m memory, a age"


class NoTerminal(Exception):
    """There is no usable terminal."""


@dataclass
class Rates:
    """Computes requests per second and CPU usage from two successive statuses."""

    seen: dict[int, tuple[float, int, float]]

    def of(self, workers: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
        """Return the workers with `rate` and `cpu`. Both are None for a worker that the last status did not have."""
        looks, found = {}, []
        for worker in workers:
            pid, requests, cpu = worker["pid"], worker["requests"], worker["cpu_seconds"] or 0.0
            looks[pid] = (now, requests, cpu)
            rate = share = None
            if pid in self.seen:
                then, before, used = self.seen[pid]
                seconds = max(now - then, 0.001)
                rate = round((requests - before) / seconds)
                share = round(100 * (cpu - used) / seconds)
            found.append({**worker, "rate": rate, "cpu": share})
        self.seen = looks
        return found


def lines(status: str, workers: list[dict[str, Any]], sort: str, width: int, height: int) -> tuple[list[str], int]:
    """Return the lines of the screen that fit, and the number of the line with the titles."""
    workers = sorted(workers, key=lambda each: each[sort] if each[sort] is not None else -1, reverse=sort != "slot")
    title = " ".join((title.upper() if key == sort else title).rjust(size) for key, title, size in COLUMNS)
    table = [" ".join(cell_of(key, each.get(key)).rjust(size) for key, _, size in COLUMNS) for each in workers]
    said = textwrap.wrap(status, max(1, width - 1))
    room = max(1, height - len(said) - 4)
    if len(table) > room:
        table = [*table[: room - 1], f"... and {len(table) - room + 1} more"]
    return [line[: width - 1] for line in (*said, "", title, *table, "", _HELP)], len(said) + 1


def show(look: Callable[[], dict[str, Any]]) -> int:
    """Show the screen until q or Ctrl-C. `look` returns a status's data or raises Unreachable. Raises NoTerminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminal("top needs a terminal")
    first = look()  # before the screen is taken, so that an error is printed normally
    try:
        curses.wrapper(_screen, look, first)
    except KeyboardInterrupt:
        pass
    except curses.error as error:
        raise NoTerminal(f"top cannot use this terminal (TERM={os.environ.get('TERM', '')}): {error}") from error
    return 0


def _screen(screen: Any, look: Callable[[], dict[str, Any]], data: dict[str, Any]) -> None:
    if not curses.tigetstr("cup"):
        raise curses.error("it has no way to move the cursor")
    try:
        curses.use_default_colors()
        curses.curs_set(0)
    except curses.error:
        pass  # the terminal has no colours or cannot hide its cursor
    rates, sort = Rates({}), "slot"
    while True:
        workers = rates.of(data["workers"], time.monotonic())
        until = time.monotonic() + EVERY_SECONDS
        while (left := until - time.monotonic()) > 0:
            _draw(screen, status_line(data), workers, sort)
            screen.timeout(max(1, int(left * 1000)))
            key = screen.getch()
            if key in (ord("q"), ord("Q"), 27):
                return
            sort = SORTED_BY.get(chr(key) if 0 < key < 256 else "", sort)
        try:
            data = look()
        except Unreachable as error:  # clusterd restarts or has ended: the screen shows the error and asks again
            data = {"status": str(error), "workers": []}


def _draw(screen: Any, status: str, workers: list[dict[str, Any]], sort: str) -> None:
    height, width = screen.getmaxyx()
    screen.erase()
    shown, titles = lines(status, workers, sort, width, height)
    for number, line in enumerate(shown[:height]):
        screen.addstr(number, 0, line, curses.A_REVERSE if number == titles else curses.A_NORMAL)
    screen.refresh()
