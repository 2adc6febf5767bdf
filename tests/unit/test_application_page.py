"""The application's part of the metrics page, read with Prometheus's own parsers, and what workers tell for it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.application.answer import MOST_BYTES, ToldMetric, decode, encode
from clusterd.metrics.application.memory import Memory
from clusterd.metrics.application.values import Value, value_class
from clusterd.metrics.page.application_page import Answer, ApplicationPage
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.regions.reading import ArenaReader

pytestmark = pytest.mark.engine_independent

Make = Callable[..., Value]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class World:
    """An arena whose processes are this one, and the page of it."""

    def __init__(self) -> None:
        self.arena = Arena.create()
        self.reader = ArenaReader(self.arena)
        self.page = ApplicationPage()
        self.answers: dict[int, Answer] = {}
        self._row = 0

    def worker(self, slot: int, generation: int = 1) -> Make:
        self._row += 1
        self.arena.lease(self._row, slot, generation)
        return value_class(Memory(self.arena.descriptor, self.arena.offset_of_row(self._row), 1000))

    def told(self, slot: int, *families: Metric) -> None:
        self.answers[slot] = Answer(tuple(metrics_in(encode(families, 1000)[0])), 2.5)

    def text(self, *, is_open: bool = False) -> str:
        snapshot = self.reader.read()
        return "".join(self.page.lines(snapshot, self.answers, is_open=is_open))

    def samples(self) -> Samples:
        """Those of both formats, which must be the same."""
        plain = text_string_to_metric_families(self.text())
        opened = openmetrics.text_string_to_metric_families(f"{self.text(is_open=True)}# EOF\n")  # type: ignore[no-untyped-call]
        found, other = (
            {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}
            for families in (plain, opened)
        )
        assert found == other
        return {key: value for key, value in found.items() if not key[0].startswith("clusterd_")}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.arena.close()


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_counters_of_all_slots_by_worker(world: World) -> None:
    for slot in (1, 2, 1):
        world.worker(slot)("counter", "a.b", "a.b_total", ("c d",), ('x"\\\n',), 'He"l\\p\n').inc(slot)
    assert world.samples() == {
        key("a_b_total", c_d='x"\\\n', worker="1"): 2,
        key("a_b_total", c_d='x"\\\n', worker="2"): 2,
    }


def test_numbers_that_are_none(world: World) -> None:
    make = world.worker(1)
    for name, value in (("plus", inf), ("minus", -inf), ("large", 1e300)):
        make("gauge", name, name, (), (), "", multiprocess_mode="all").set(value)
    assert set(world.samples().values()) == {inf, -inf, 1e300}


def histogram(make: Make, *bounds: str, name: str = "h") -> None:
    make("histogram", name, f"{name}_sum", ("a",), ("b",), "").inc(4)
    for bound in bounds:
        make("histogram", name, f"{name}_bucket", ("a", "le"), ("b", bound), "").inc(2)


def test_a_histogram_is_cumulative_and_has_a_sum_unless_it_may_fall(world: World) -> None:
    histogram(world.worker(1), "10.0", "1.0", "+Inf")
    histogram(world.worker(1), "-1.0", "+Inf", name="negative")
    histogram(world.worker(1), "1.0", "2.0", name="cut")
    histogram(world.worker(1), "nonsense", "+Inf", name="odd")
    assert world.samples() == {
        key("h_bucket", a="b", le="1.0", worker="1"): 2,
        key("h_bucket", a="b", le="10.0", worker="1"): 4,
        key("h_bucket", a="b", le="+Inf", worker="1"): 6,
        key("h_count", a="b", worker="1"): 6,
        key("h_sum", a="b", worker="1"): 4,
        key("negative_bucket", a="b", le="-1.0", worker="1"): 2,
        key("negative_bucket", a="b", le="+Inf", worker="1"): 4,
        key("odd_bucket", a="b", le="+Inf", worker="1"): 2,
        key("odd_count", a="b", worker="1"): 2,
        key("odd_sum", a="b", worker="1"): 4,
    }


def test_the_newest_process_says_what_a_metric_is(world: World) -> None:
    world.worker(1)("counter", "a", "a_total", (), (), "Old.").inc(1)
    world.worker(2)("gauge", "a", "a", (), (), "New.", multiprocess_mode="max").set(3)
    assert world.samples() == {key("a", worker="2"): 3}
    assert "# HELP a New.\n# TYPE a gauge\n" in world.text()


def test_what_collides_is_left_out_with_a_reason(world: World) -> None:
    make = world.worker(1)
    make("counter", "clusterd_generation", "clusterd_generation_total", (), (), "").inc(1)
    make("counter", "a", "a_total", (), (), "").inc(1)
    make("gauge", "a_total", "a_total", (), (), "", multiprocess_mode="max").set(1)
    make("gauge", "x.y", "x.y", (), (), "", multiprocess_mode="max").set(1)
    make("gauge", "x_y", "x_y", (), (), "", multiprocess_mode="max").set(2)
    text = world.text()
    assert 'clusterd_generation_total{worker="1"}' not in text
    assert text.count("\na_total") == 1
    assert text.count("\nx_y{") == 1
    assert set(world.page.left_out) == {"clusterd_generation", "a_total", "x_y"}


def test_a_kind_that_prometheus_does_not_know_is_shown_as_unknown(world: World) -> None:
    world.worker(1)("counter\n# EOF", "orders", "orders", (), (), "").inc(1)
    assert world.samples() == {key("orders", worker="1"): 1}
    assert "# TYPE orders unknown\n" in world.text(is_open=True)


def test_what_workers_tell_is_shown_with_its_age(world: World) -> None:
    for slot in (1, 2):
        world.worker(slot)("gauge", "mixed", "mixed", ("by",), ("value",), "", multiprocess_mode="max").set(1)
        mixed = GaugeMetricFamily("mixed", "", labels=["by"])
        mixed.add_metric(["function"], slot)
        world.told(
            slot,
            mixed,
            InfoMetricFamily("build", "B.", {"version": "3"}),
            StateSetMetricFamily("state", "S.", {"up": True, "down": False}),
            CounterMetricFamily("turns", "T.", slot, created=123),
            SummaryMetricFamily("sizes", "", 2, 5),
            HistogramMetricFamily("times", "", [("1.0", 1), ("+Inf", 2)], 3),
            UnknownMetricFamily("odd", "", 1),
        )
    found = world.samples()
    assert found[key("mixed", by="value", worker="1")] == 1
    assert found[key("mixed", by="function", worker="2")] == 2
    assert found[key("build_info", version="3", worker="2")] == 1
    assert found[key("state", state="up", worker="1")] == 1
    assert found[key("turns_total", worker="2")] == 2
    assert found[key("sizes_sum", worker="1")] == 5
    assert found[key("times_bucket", le="+Inf", worker="1")] == 2
    assert not [name for name, _ in found if name.endswith("_created")]
    assert 'clusterd_application_answer_age_seconds{worker="2"} 2.5' in world.text()


def test_a_sample_that_its_kind_does_not_have_is_left_out(world: World) -> None:
    wrong = Metric("wrong", "", "gauge")
    wrong.add_sample("another", {}, 1)
    wrong.add_sample("wrong", {"a": "b"}, 1, 12.5)
    wrong.add_sample("wrong", {"a": "b"}, 2)
    world.told(1, wrong, GaugeHistogramMetricFamily("both", "", [("+Inf", 1)], 1))
    assert 'wrong{a="b",worker="1"} 1.0 12500\n' in world.text()
    assert 'wrong{a="b",worker="1"} 1.0 12.5\n' in world.text(is_open=True)
    assert "another{" not in world.text()
    assert "both_gsum" not in world.text()
    assert 'both_gsum{worker="1"} 1.0\n' in world.text(is_open=True)


def metrics_in(answer: bytes) -> list[ToldMetric]:
    return [step for step in decode(answer, 1000) if step is not None]


def test_more_samples_than_allowed_are_not_told() -> None:
    many = GaugeMetricFamily("many", "", labels=["a"])
    for number in range(5):
        many.add_metric([str(number)], number)
    answer, dropped = encode([many, GaugeMetricFamily("more", "", 1)], 3)
    assert dropped == 3
    assert [len(metric.samples) for metric in metrics_in(answer)] == [3]


def test_a_metric_that_no_page_could_show_is_not_told() -> None:
    wrong = Metric("wrong", "", "gauge")
    wrong.add_sample("wrong", {}, None)  # type: ignore[arg-type]
    untyped = GaugeMetricFamily("untyped", "", 1)
    untyped.type = "untyped"
    without_help = SimpleNamespace(name="helpless", type="gauge", samples=untyped.samples)
    answer, _ = encode([wrong, untyped, without_help, GaugeMetricFamily("right", "", 1)], 9)
    assert [metric.name for metric in metrics_in(answer)] == ["right"]


def test_a_metric_that_no_answer_has_room_for_is_dropped_and_the_others_are_told() -> None:
    large = GaugeMetricFamily("large", "", labels=["a"])
    for number in range(1000):
        large.add_metric([f"{number} {'x' * 10_000}"], 1)
    answer, dropped = encode([GaugeMetricFamily("before", "", 1), large, GaugeMetricFamily("after", "", 1)], 10_000)
    assert len(answer) <= MOST_BYTES
    assert [metric.name for metric in metrics_in(answer)] == ["before", "after"]
    assert dropped == 1000


def test_a_time_that_no_page_could_show_is_not_told() -> None:
    late = Metric("late", "", "gauge")
    late.add_sample("late", {}, 1, 1e306)
    answer, _ = encode([late], 9)
    assert [sample.timestamp for metric in metrics_in(answer) for sample in metric.samples] == [None]


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff",
        b"1",
        b"[1]",
        b'["a"]',
        b'["a", "b", ""]',
        b'["a", {}, 1, null]',
        b'["a", "gauge", ""]\n["a", {"b": 1}, 1, null]',
        b'["a", "gauge", ""]\n["a", [], 1, null]',
        b'["a", "gauge", ""]\n["a", {}, "x", null]',
        b'["a", "gauge", ""]\n["a", {}, 1%s, null]' % (b"0" * 400),
        b'["a", "gauge", ""]\n["a", {}, 1, NaN]',
        b'["a", "gauge", ""]\n["a", {}, 1, 1e306]',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):
        metrics_in(answer)


def test_a_long_answer_is_read_in_many_steps() -> None:
    many = GaugeMetricFamily("many", "", labels=["a"])
    for number in range(1000):
        many.add_metric([str(number)], number)
    answer, _ = encode([many], 1000)
    assert sum(step is None for step in decode(answer, 1000)) == 1000


@given(st.recursive(st.none() | st.text(max_size=3) | st.floats(), lambda x: st.lists(x, max_size=4), max_leaves=20))
def test_whatever_a_worker_tells_is_read_or_refused(document: object) -> None:
    import json

    with suppress(ValueError):
        metrics_in(json.dumps(document).encode())
