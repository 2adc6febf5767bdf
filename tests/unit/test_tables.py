"""What clusterctl prints for people."""

import io
from typing import Any

import pytest

from clusterd.cli import tables, top

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
    table = tables.workers_table(WORKERS, colour=False).splitlines()
    assert table == [
        "slot  gen   pid     state    age  restarts  requests  conns  in flight  memory",
        "   1    3  1001     ready  59.9s         0        10      1          0      1M",
        "   2    3  1002  draining  1m59s         1        20      2          0      2M",
    ]


def test_a_slot_that_waits_says_why_and_for_how_long() -> None:
    waiting = {**WORKERS[0], "slot": 3, "pid": None, "age": None, "memory": None, "state": "backoff", "restarts": 4}
    waiting |= {"failures": 5, "reason": "RuntimeError: no database", "retry_in": 7.5}
    *rows, empty, line = tables.workers_table([*WORKERS, waiting], colour=False).splitlines()
    assert rows[3].split()[:6] == ["3", "3", "-", "backoff", "-", "4"]
    assert (empty, line) == ("", "slot 3: next try in 7.5s, failed 5 times: RuntimeError: no database")


def test_colours_are_for_terminals_whose_owner_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert tables.wants_colour(Terminal())
    assert not tables.wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not tables.wants_colour(Terminal())
    assert "\033[32m" in tables.workers_table(WORKERS, colour=True).splitlines()[1]


def test_hooks_are_a_line_that_says_what_is_wrong() -> None:
    hooks = {"module": "shop.hooks", "pid": 7, "generation": 2, "state": "running", "waiting": 0, "busy_seconds": 0.2}
    hooks |= {"restarts": 0, "events_dropped": 0, "messages_dropped": 0, "cut": 0, "failure": None}
    assert tables.hooks_line(hooks) == "hooks shop.hooks: running, generation 2, pid 7"
    hooks |= {"pid": None, "state": "down", "waiting": 3, "busy_seconds": 75.0, "restarts": 1}
    hooks |= {"events_dropped": 1, "messages_dropped": 1, "cut": 1, "busy_with": "'exit' of worker 2"}
    hooks |= {"failure": "ImportError", "retry_seconds": 8.0}
    assert tables.hooks_line(hooks) == (
        "hooks shop.hooks: down, generation 2, pid -; "
        "busy with 'exit' of worker 2 for 1m15s, waiting 3, restarts 1, dropped 2, cut 1; "
        "died: ImportError, trying again in 8.0s"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.9, "59.9s"), (60, "1m0s"), (3725, "1h2m"), (90000, "1d1h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_what_an_application_wrote_commands_no_terminal() -> None:
    event = {"number": 1, "time": 0.0, "event": "exit", "how": "\033[2J"}
    assert "\033" not in tables.event_line(event, "12:00:00")
    assert "\033" not in "".join(tables.settings_lines({"app": "\033[2J"}))


def test_a_spinner_leaves_nothing_behind() -> None:
    stream, silent = Terminal(), io.StringIO()
    spinner = tables.Spinner(stream)
    spinner.show("a long text")
    spinner.show("a text")
    spinner.clear()
    assert stream.getvalue().split("\r") == ["", "/ a long text", "- a text     ", " " * 8, ""]
    tables.Spinner(silent).show("a text")
    assert silent.getvalue() == ""


def test_top_fits_whatever_screen_there_is() -> None:
    rates = top.Rates({})
    rates.of(WORKERS, 10.0)
    later = [{**each, "requests": each["requests"] + 50 * each["slot"], "cpu_seconds": 1.5} for each in WORKERS]
    workers = rates.of(later, 11.0)
    assert [(each["rate"], each["cpu"]) for each in workers] == [(50, 50), (100, 50)]
    screen, titles = top.lines("Serving: 2 workers", workers, "rate", 80, 24)
    assert [line.split()[0] for line in screen[titles + 1 : titles + 3]] == ["2", "1"], "the busiest first"
    assert all(len(line) < 80 for line in screen)
    many = [{**workers[0], "slot": slot} for slot in range(100)]
    small, _ = top.lines("Serving", many, "slot", 80, 24)
    assert len(small) <= 24
    assert small[-3] == "... and 82 more"
