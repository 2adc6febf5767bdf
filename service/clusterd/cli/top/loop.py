"""The loop: asks for a dashboard once a second, draws it, and reads keys in between."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.live import Live

from clusterd.cli import terminal
from clusterd.cli.asking import Unreachable
from clusterd.cli.top.screen import KEYS, draw
from clusterd.dashboard.model import Dashboard, parse
from clusterd.wire.control import ControlError

EVERY_SECONDS = 1.0
SIZE_SECONDS = 0.2
"""How often the size of the terminal is looked at."""
_ESCAPE = "\x1b"
_QUIT = f"qQ{_ESCAPE}"


def show(ask: Callable[[], dict[str, Any]]) -> int:
    """Show the screen until q or Ctrl-C. `ask` returns the result of the command or raises Unreachable.

    Raises what `ask` raises for the first time, before the screen is taken, and ControlError.
    """
    first = _dashboard(ask)
    out = terminal.console(sys.stdout)
    try:
        with _keyboard() as keyboard, Live(console=out, screen=True, auto_refresh=False) as live:
            _follow(first, ask, keyboard, live)
    except KeyboardInterrupt:
        pass
    return 0


def _follow(dashboard: Dashboard, ask: Callable[[], dict[str, Any]], keyboard: int, live: Live) -> None:
    sort, failure = "slot", ""
    while True:
        until, drawn = time.monotonic() + EVERY_SECONDS, None
        while (left := until - time.monotonic()) > 0:
            if drawn != (live.console.size, sort):
                drawn = live.console.size, sort
                live.update(draw(live.console, dashboard, sort, failure), refresh=True)
            for key in _typed(keyboard, min(left, SIZE_SECONDS)):
                if key in _QUIT:
                    return
                sort = KEYS.get(key, sort)
        try:
            dashboard, failure = _dashboard(ask), ""
        except (Unreachable, ControlError) as error:  # clusterd restarts or has ended: it is asked again
            failure = str(error)


def _dashboard(ask: Callable[[], dict[str, Any]]) -> Dashboard:
    result = ask()
    try:
        if result["succeeded"]:
            return parse(result["data"])
        problem = str(result["text"])
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise ControlError(f"another version of clusterd runs; restart it ({problem})")


def _typed(keyboard: int, seconds: float) -> str:
    """Wait for keys. Returns those that were typed, none after the time, and one that quits at the end of the input."""
    if not select.select([keyboard], [], [], seconds)[0]:
        return ""
    typed = os.read(keyboard, 64).decode("latin-1")
    if typed.startswith(_ESCAPE) and typed != _ESCAPE:  # an arrow, for example
        return ""
    return typed or _QUIT[0]


@contextmanager
def _keyboard() -> Iterator[int]:
    """Have the terminal pass each key at once. Yields its descriptor."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
