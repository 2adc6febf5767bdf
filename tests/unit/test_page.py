"""The page for browsers, as HTML without a browser."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from clusterd.dashboard import words
from clusterd.dashboard.history import Activity
from clusterd.dashboard.model import Dashboard, parse, plain
from clusterd.dashboard.page import charts
from clusterd.dashboard.page.document import POLICY, render
from tests.support.dashboards import BACKOFF, DASHBOARD, READY

pytestmark = pytest.mark.engine_independent

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


class Reader(HTMLParser):
    """Collects the text of each element, and checks that every element is closed."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def text(self) -> str:
        return " ".join(text.strip() for tag, text in self.texts if tag not in ("style", "script"))


def read(dashboard: Dashboard) -> Reader:
    return Reader(render(dashboard).decode())


def test_everything_is_there_in_words_for_people() -> None:
    text = read(DASHBOARD).text()
    for part in (
        "clusterd@shop",
        "1 of 2 ready",
        "host app1",
        "1d1h",
        "Rollout of generation 2 1 of 2 workers replaced",
        "Requests a second 1,234",
        "Latency p99 240 ms median 0.77 ms",
        "Errors, last minute 7 under 0.1% of 70k",
        "In flight 5 3 wait for a thread",
        "Memory 43M",
        "7 restarts since the start",
        "threads 4 of 4 queue 3 of 100 memory of worker 1 480M of 512M",
        "1 ready 2 102 59.9s 1,234",
        "42% 22M 1",
        "draining 1 101 1h2m 1 21M",
        "slot 2: next try in 7.5s, failed 5 times: RuntimeError: no database",
    ):
        assert part in text, text
    assert "None" not in text
    assert not re.search(r"\d{7}", text), "a raw number"


def test_what_an_application_has_written_is_text_and_commands_nothing() -> None:
    document = render(DASHBOARD).decode()
    assert "<script>alert" not in document
    assert "&lt;script&gt;alert" in document
    assert "<script>alert" in read(DASHBOARD).text()


def test_the_policy_allows_this_style_and_this_script_and_no_other() -> None:
    reader = read(DASHBOARD)
    for tag in ("style", "script"):
        (text,) = (text for of, text in reader.texts if of == tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in POLICY
    assert not [each for each in reader.attributes if each[1] == "style" or each[1].startswith("on")]
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")


def test_nothing_is_loaded_from_elsewhere_and_nothing_can_be_changed() -> None:
    reader = read(DASHBOARD)
    targets = [value for _, name, value in reader.attributes if name in ("src", "href", "action")]
    assert [each for each in targets if not each.startswith("data:")] == ["metrics", "healthz", "readyz?verbose"]
    assert not {tag for tag, _, _ in reader.attributes} & {"form", "button", "input", "iframe", "img"}


def test_without_scripts_it_is_loaded_again() -> None:
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in render(DASHBOARD).decode()


def test_a_service_that_answers_nothing_says_why() -> None:
    about = replace(DASHBOARD.about, not_ready="no worker is ready", hooks="hooks shop.hooks: running")
    text = read(replace(DASHBOARD, about=about)).text()
    assert "Not ready" in text and "no worker is ready" in text and "hooks shop.hooks: running" in text


def test_a_service_that_has_just_started_has_no_history() -> None:
    empty = replace(READY, state="empty", activity=Activity(), rates=(), worker=None, others=())
    totals = replace(DASHBOARD.totals, activity=Activity())
    document = replace(DASHBOARD, rollout=None, bars=(), slots=(empty,), events=(), points=(), totals=totals)
    text = read(document).text()
    assert "no history yet" in text and "None" not in text
    assert "Rollout" not in text


def test_a_dashboard_survives_its_way_to_clusterctl() -> None:
    for dashboard in (DASHBOARD, replace(DASHBOARD, rollout=None, slots=(BACKOFF,))):
        assert parse(json.loads(json.dumps(plain(dashboard)))) == dashboard


def test_a_chart_has_a_gap_where_nothing_is_known() -> None:
    drawn = charts.sparkline("latency", [("p99", [1.0, None, 2.0, 4.0])], 180)
    assert drawn.count('class="line p99"') == 2
    assert drawn.count('class="area p99"') == 1
    assert "L179,2" in drawn, "the newest and highest is at the top right"
    assert charts.bar("queue", 0.95).count('class="bad"') == 1
    assert charts.bar("queue", 0.5).count('class="good"') == 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.count(None), "-"),
        (words.count(9_500), "9,500"),
        (words.count(95_432), "95k"),
        (words.count(9_949_000), "9.9M"),
        (words.count(123_456_789), "123M"),
        (words.count(7_000_000_000_000), "7,000G"),
        (words.rate(0.0), "0"),
        (words.rate(0.4), "0.4"),
        (words.rate(1234.5), "1,234"),
        (words.latency(None), "-"),
        (words.latency(0.00035), "0.35 ms"),
        (words.latency(0.012), "12 ms"),
        (words.latency(0.9996), "1 s"),
        (words.latency(10.0), "10 s"),
        (words.memory(0), "0M"),
        (words.memory(22 << 20), "22M"),
        (words.memory(1536 << 20), "1.5G"),
        (words.memory(22 << 30), "22G"),
        (words.memory(3 << 40), "3.0T"),
        (words.percent(0.0), "0%"),
        (words.percent(0.003), "0.3%"),
        (words.percent(1.5), "150%"),
    ],
)
def test_numbers_can_be_read(written: str, expected: str) -> None:
    assert written == expected
