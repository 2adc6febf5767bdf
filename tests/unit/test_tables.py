"""What clusterctl prints for people."""

import io
import re
from typing import Any

import pytest

from clusterd.cli import tables, terminal
from clusterd.dashboard import words

WORKERS: list[dict[str, Any]] = [
    {
        "slot": slot,
        "generation": 3,
        "pid": 1000 + slot,
        "state": state,
        "age": 59.94 * slot,
        "restarts": slot - 1,
        "requests": 10 * slot,
        "connections": slot,
        "in_flight": 0,
        "cpu_seconds": 1.0,
        "memory": slot << 20,
    }
    for slot, state in ((1, "ready"), (2, "draining"))
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_column_is_as_wide_as_it_has_to_be() -> None:
    table = tables.workers_text(WORKERS).splitlines()
    assert table == [
        "slot  gen   pid     state    age  restarts  requests  conns  in flight  memory",
        "   1    3  1001     ready  59.9s         0        10      1          0      1M",
        "   2    3  1002  draining  1m59s         1        20      2          0      2M",
    ]


def test_a_slot_that_waits_says_why_and_for_how_long() -> None:
    waiting = {**WORKERS[0], "slot": 3, "pid": None, "age": None, "memory": None, "state": "backoff", "restarts": 4}
    waiting |= {"failures": 5, "reason": "RuntimeError: no database", "retry_in": 7.5}
    *rows, empty, line = tables.workers_text([*WORKERS, waiting]).splitlines()
    assert rows[3].split()[:6] == ["3", "3", "-", "backoff", "-", "4"]
    assert (empty, line) == ("", "slot 3: next try in 7.5s, failed 5 times: RuntimeError: no database")


def printed(workers: list[dict[str, Any]], columns: int = 100) -> str:
    """What a terminal of so many columns is given."""
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        terminal.print_workers(workers, stream)
    return stream.getvalue()


def test_colours_are_for_terminals_whose_owner_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.is_terminal(Terminal())
    assert not terminal.is_terminal(io.StringIO())
    assert "\033[32m" in printed(WORKERS)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[32m" not in printed(WORKERS)
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.is_terminal(Terminal())


def test_a_narrow_terminal_has_the_important_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    titles = ["slot", "gen", "pid", "state", "age", "restarts", "requests", "conns", "in", "flight", "memory"]
    assert unstyled(printed(WORKERS)).split("\n")[0].split() == titles
    for columns in range(4, 80):
        lines = [line.rstrip() for line in unstyled(printed(WORKERS, columns)).splitlines()]
        assert all(len(line) <= columns for line in lines)
        assert len(lines) == 3
    assert unstyled(printed(WORKERS, 24)).split("\n")[0].split() == ["slot", "pid", "state"]


def unstyled(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_hooks_are_a_line_that_says_what_is_wrong() -> None:
    hooks = {"module": "shop.hooks", "pid": 7, "generation": 2, "state": "running", "waiting": 0, "busy_seconds": 0.2}
    hooks |= {"restarts": 0, "events_dropped": 0, "messages_dropped": 0, "cut": 0, "failure": None}
    assert words.hooks(hooks) == "hooks shop.hooks: running, generation 2, pid 7"
    hooks |= {"pid": None, "state": "down", "waiting": 3, "busy_seconds": 75.0, "restarts": 1}
    hooks |= {"events_dropped": 1, "messages_dropped": 1, "cut": 1, "busy_with": "'exit' of worker 2"}
    hooks |= {"failure": "ImportError", "retry_seconds": 8.0}
    assert words.hooks(hooks) == (
        "hooks shop.hooks: down, generation 2, pid -; "
        "busy with 'exit' of worker 2 for 1m15s, waiting 3, restarts 1, dropped 2, cut 1; "
        "died: ImportError, trying again in 8.0s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (60, "1m0s"), (3725, "1h2m"), (90000, "1d1h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_an_end_names_the_requests_that_it_has_cost() -> None:
    event = {"number": 1, "time": 0.0, "event": "exit", "slot": 1, "cause": "hang", "lost": 2}
    requests = [
        {"method": "GET", "target": f"/{age}", "age": age, "peer": "unix", "state": "lost"} for age in (75, 1.2)
    ]
    assert tables.event_line({**event, "requests": requests}, "12:00:00") == (
        '12:00:00 exit slot=1 cause=hang lost=2 requests="GET /75 (1m15s), GET /1.2 (1.2s)"'
    )
    assert tables.event_line({**event, "cause": None, "lost": 0, "requests": []}, "12:00:00") == "12:00:00 exit slot=1"


def test_what_an_application_wrote_commands_no_terminal() -> None:
    event = {"number": 1, "time": 0.0, "event": "exit", "how": "\033[2J"}
    assert "\033" not in tables.event_line(event, "12:00:00")
    assert "\033" not in "".join(tables.settings_lines({"app": "\033[2J"}))


def test_a_spinner_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, silent = Terminal(), io.StringIO()
    spinner = terminal.Spinner(stream)
    spinner.show("a long text")
    spinner.show("a text [red]\033[2J")
    spinner.clear()
    assert "a text [red]\\x1b[2J" in stream.getvalue()
    assert stream.getvalue().endswith("\033[?25h\r\033[1A\033[2K"), "the line is gone, and the cursor is back"
    quiet = terminal.Spinner(silent)
    quiet.show("a text")
    quiet.clear()
    assert silent.getvalue() == ""
