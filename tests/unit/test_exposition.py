"""The metrics page, read with Prometheus's own parsers."""

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.kernel.procfs import ProcessUsage
from clusterd.metrics.page import exposition, pace
from clusterd.metrics.page.exposition import ClusterSource, Usage, render
from clusterd.metrics.page.facts import ClusterFacts, HooksFacts, Phase, WorkerFacts
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.page.negotiation import Form, Page, Wanted
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.row import REFUSALS, TIMEOUTS
from clusterd.metrics.shared.scoreboard import Scoreboard

Labels = dict[str, str]

SECOND = 1_000_000_000
PLAIN = Wanted()
USAGES = {
    10: ProcessUsage(0.5, 20_000_000, 12),
    101: ProcessUsage(1.5, 50_000_000, 20),
    102: ProcessUsage(2.0, 60_000_000, 21),
    103: ProcessUsage(0.25, 40_000_000, 8),
}


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def facts(scoreboard: Scoreboard) -> ClusterFacts:
    """Slot 1 has a draining predecessor and a ready successor, slot 2 a worker that boots, slot 3 nothing."""
    predecessor, successor, booting = (scoreboard.row(scoreboard.lease()) for _ in range(3))
    for row, connections in ((predecessor, 3), (successor, 4)):
        row.connections = connections
        counter = RequestCounter(row)
        counter.request_done(200, 0.002, 0.0003)
        counter.request_done(404, 0.3, 0.25)
        counter.publish()
        row.in_flight = 1
        row.threads = 4
        row.jobs = connections + 2
        row.heartbeat = (100 - connections) * SECOND
        row.progress = (99 - connections) * SECOND
        row.started_at = 1000.0 + connections
    return ClusterFacts(
        version="1.2.3",
        pid=10,
        started_at=900.0,
        generation=2,
        slots=(1, 2, 3),
        workers=(
            WorkerFacts(1, 2, 102, Phase.READY, successor),
            WorkerFacts(1, 1, 101, Phase.DRAINING, predecessor),
            WorkerFacts(2, 2, 103, Phase.BOOTING, booting),
        ),
        workers_min=2,
        workers_max=8,
        is_elastic=True,
        is_in_rotation=True,
        scalings={("up", "queue"): 4, ("down", "idle"): 3},
        restarts={(1, "signal"): 2},
        restart_reasons={"hang": False, "rollout": True, "signal": False},
        lost={(1, "hang"): 3},
        loss_reasons=("hang", "memory"),
        rollouts={"succeeded": 1, "failed": 0},
        rollout_under_way=True,
        reload_successful=True,
        reloaded_at=950.0,
        orphans_reaped=5,
        messages_dropped=6,
        refused_connections=7,
    )


def page(facts: ClusterFacts, ledger: Ledger, wanted: Wanted = PLAIN, usage: Usage = USAGES.get) -> Page:
    return asyncio.run(render([ClusterSource(lambda: facts, ledger, lambda: 100 * SECOND, usage)], wanted))


def samples(facts: ClusterFacts, ledger: Ledger) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in families(facts, ledger):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def families(facts: ClusterFacts, ledger: Ledger) -> list[Metric]:
    return list(text_string_to_metric_families(page(facts, ledger).body.decode()))


def by_worker(found: list[tuple[Labels, float]]) -> dict[str, float]:
    return {labels["worker"]: value for labels, value in found}


def test_a_slot_is_the_sum_of_its_living_and_dead_processes(
    facts: ClusterFacts, ledger: Ledger, scoreboard: Scoreboard
) -> None:
    dead = scoreboard.row(scoreboard.lease())
    RequestCounter(dead).request_done(200, 20.0, 0.0)
    dead.connections = 50
    dead.log_dropped = 3
    ledger.fold(1, dead, 10.0)
    found = samples(facts, ledger)
    requests = {(labels["worker"], labels["code"]): value for labels, value in found["clusterd_http_requests_total"]}
    assert requests["1", "2xx"] == 3
    assert requests["1", "4xx"] == 2
    assert requests["1", "5xx"] == requests["3", "2xx"] == 0
    assert by_worker(found["clusterd_http_connections"]) == {"1": 7, "2": 0, "3": 0}
    assert by_worker(found["clusterd_http_requests_in_flight"]) == {"1": 2, "2": 0, "3": 0}
    assert by_worker(found["clusterd_log_records_dropped_total"]) == {"1": 3, "2": 0, "3": 0}
    assert by_worker(found["clusterd_worker_cpu_seconds_total"]) == {"1": 13.5, "2": 0.25, "3": 0}
    assert by_worker(found["clusterd_worker_resident_memory_bytes"])["1"] == 110_000_000
    assert by_worker(found["clusterd_worker_open_fds"])["1"] == 41


def test_a_slot_is_described_by_the_process_that_serves(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    assert by_worker(found["clusterd_worker_up"]) == {"1": 1, "2": 0, "3": 0}
    assert by_worker(found["clusterd_worker_generation"]) == {"1": 2, "2": 2}
    assert by_worker(found["clusterd_worker_start_time_seconds"]) == {"1": 1004}
    assert by_worker(found["clusterd_worker_heartbeat_age_seconds"]) == {"1": 4}


def test_a_serving_predecessor_describes_the_slot_until_its_successor_is_ready(
    facts: ClusterFacts, ledger: Ledger
) -> None:
    successor, predecessor, _ = facts.workers
    workers = (replace(successor, phase=Phase.BOOTING), replace(predecessor, phase=Phase.READY))
    found = samples(replace(facts, workers=workers), ledger)
    assert by_worker(found["clusterd_worker_generation"])["1"] == 1
    assert by_worker(found["clusterd_worker_up"])["1"] == 1


def test_durations_are_a_cumulative_histogram_of_each_class_of_codes(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    name = "clusterd_http_request_duration_seconds"
    buckets = {
        (labels["code"], labels["le"]): value for labels, value in found[f"{name}_bucket"] if labels["worker"] == "1"
    }
    assert [le for code, le in buckets if code == "2xx"][:5] == ["0.0001", "0.00025", "0.0005", "0.001", "0.0025"]
    assert (buckets["2xx", "0.001"], buckets["2xx", "0.0025"], buckets["2xx", "+Inf"]) == (0, 2, 2)
    assert (buckets["4xx", "0.25"], buckets["4xx", "0.5"], buckets["4xx", "+Inf"]) == (0, 2, 2)
    counts = {labels["code"]: value for labels, value in found[f"{name}_count"] if labels["worker"] == "1"}
    assert counts == {"2xx": 2, "3xx": 0, "4xx": 2, "5xx": 0}
    sums = {labels["code"]: value for labels, value in found[f"{name}_sum"] if labels["worker"] == "1"}
    assert [sums["2xx"], sums["4xx"]] == pytest.approx([0.004, 0.6])


def test_a_class_that_is_rare_has_durations_once_it_has_any(
    facts: ClusterFacts, ledger: Ledger, scoreboard: Scoreboard
) -> None:
    dead = scoreboard.row(scoreboard.lease())
    RequestCounter(dead).request_done(101, 0.01, 0.0)
    ledger.fold(1, dead, 0.0)
    found = samples(facts, ledger)["clusterd_http_request_duration_seconds_count"]
    assert ({"worker": "1", "code": "1xx"}, 1.0) in found
    assert not any(labels["worker"] == "2" and labels["code"] == "1xx" for labels, _ in found)


def test_the_time_before_the_application_ran_is_apart_from_its_own(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    assert by_worker(found["clusterd_http_queue_seconds_count"]) == {"1": 4, "2": 0, "3": 0}
    assert by_worker(found["clusterd_http_queue_seconds_sum"])["1"] == pytest.approx(0.5006)


def test_threads_are_busy_up_to_their_number_and_the_rest_waits(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    assert by_worker(found["clusterd_http_threads"])["1"] == 8
    assert by_worker(found["clusterd_http_threads_busy"])["1"] == 8
    assert by_worker(found["clusterd_http_queue_length"])["1"] == 3
    assert by_worker(found["clusterd_worker_progress_age_seconds"]) == {"1": 5}


def test_every_value_of_a_label_exists_from_the_start(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    refused = {(labels["worker"], labels["reason"]): value for labels, value in found["clusterd_http_refused_total"]}
    assert {reason for worker, reason in refused if worker == "3"} == set(REFUSALS)
    assert refused["", "no_worker"] == 7
    timeouts = found["clusterd_http_timeouts_total"]
    assert {labels["kind"] for labels, _ in timeouts if labels["worker"] == "3"} == set(TIMEOUTS)
    collections = found["clusterd_worker_garbage_collections_total"]
    assert {labels["generation"] for labels, _ in collections} == {"0", "1", "2"}


def test_every_restart_series_exists_before_the_first_restart(facts: ClusterFacts, ledger: Ledger) -> None:
    restarts = samples(facts, ledger)["clusterd_worker_restarts_total"]
    found = {(labels["worker"], labels["reason"], labels["asked"]): value for labels, value in restarts}
    assert found == {
        (worker, reason, asked): 2 if (worker, reason) == ("1", "signal") else 0
        for worker in ("1", "2", "3")
        for reason, asked in (("hang", "no"), ("rollout", "yes"), ("signal", "no"))
    }


def test_a_slot_scaled_away_keeps_its_counts_and_nothing_else(
    facts: ClusterFacts, ledger: Ledger, scoreboard: Scoreboard
) -> None:
    row = scoreboard.row(scoreboard.lease())
    RequestCounter(row).request_done(200, 0.1, 0.0)
    ledger.fold(9, row, 0.0)
    gauges = {family.name for family in families(facts, ledger) if family.type == "gauge"}
    found = samples(facts, ledger)
    assert ({"worker": "9", "code": "2xx"}, 1.0) in found["clusterd_http_requests_total"]
    assert not [name for name in gauges if any(labels.get("worker") == "9" for labels, _ in found[name])]


def test_a_slot_scaled_away_that_drains_has_its_gauges_and_is_not_missed(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(replace(facts, slots=(2, 3)), ledger)
    assert by_worker(found["clusterd_http_connections"])["1"] == 7
    assert by_worker(found["clusterd_worker_up"]) == {"2": 0, "3": 0}


def test_the_cluster_and_its_master(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    ((labels, value),) = found["clusterd_build_info"]
    assert (labels["version"], value) == ("1.2.3", 1)
    assert {(labels["phase"], value) for labels, value in found["clusterd_workers"]} == {
        ("booting", 1),
        ("ready", 1),
        ("draining", 1),
    }
    assert {(labels["result"], value) for labels, value in found["clusterd_rollouts_total"]} == {
        ("succeeded", 1),
        ("failed", 0),
    }
    single = {name: values[0][1] for name, values in found.items() if values[0][0] == {}}
    assert single == {
        "clusterd_generation": 2,
        "clusterd_workers_wanted": 3,
        "clusterd_workers_min": 2,
        "clusterd_workers_max": 8,
        "clusterd_workers_elastic": 1,
        "clusterd_in_rotation": 1,
        "clusterd_rollout_under_way": 1,
        "clusterd_config_last_reload_successful": 1,
        "clusterd_config_last_reload_success_timestamp_seconds": 950,
        "clusterd_strays_reaped_total": 5,
        "clusterd_messages_dropped_total": 6,
        "clusterd_master_start_time_seconds": 900,
        "clusterd_master_cpu_seconds_total": 0.5,
        "clusterd_master_resident_memory_bytes": 20_000_000,
        "clusterd_master_open_fds": 12,
    }


def test_hooks_are_shown_where_there_are_any(facts: ClusterFacts, ledger: Ledger) -> None:
    assert not any(name.startswith("clusterd_hooks") for name in samples(facts, ledger))
    hooks = HooksFacts("shop.hooks", 104, 2, "running", True, 7, 1.5, 3, 4, 5, 6)
    found = samples(replace(facts, hooks=hooks), ledger)
    assert found["clusterd_hooks_up"] == [({}, 1.0)]
    assert found["clusterd_hooks_waiting"] == [({}, 7.0)]
    assert found["clusterd_hooks_busy_seconds"] == [({}, 1.5)]
    assert found["clusterd_hooks_restarts_total"] == [({}, 3.0)]
    assert found["clusterd_hooks_dropped_total"] == [
        ({"kind": "event"}, 4.0),
        ({"kind": "message"}, 5.0),
        ({"kind": "cut"}, 6.0),
    ]


def test_processes_that_vanish_while_they_are_read_are_left_out(facts: ClusterFacts, ledger: Ledger) -> None:
    body = page(facts, ledger, usage=lambda pid: None).body
    assert b"clusterd_master_open_fds" not in body
    assert b'clusterd_worker_open_fds{worker="1"} 0.0' in body


def of_all(families: Sequence[Metric]) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    return {
        (sample.name, tuple(sample.labels.items()), sample.value) for family in families for sample in family.samples
    }


def test_both_formats_have_the_same_samples(facts: ClusterFacts, ledger: Ledger) -> None:
    made = page(facts, ledger, Wanted(Form.OPENMETRICS))
    assert made.content_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = list(openmetrics.text_string_to_metric_families(made.body.decode()))  # type: ignore[no-untyped-call]
    assert of_all(parsed) == of_all(families(facts, ledger))
    types = {family.name: family.type for family in parsed}
    assert types["clusterd_http_requests"] == "counter"
    assert types["clusterd_http_request_duration_seconds"] == "histogram"
    assert types["clusterd_build"] == "info"
    assert page(facts, ledger).content_type.startswith("text/plain; version=0.0.4")


def test_a_compressed_page_is_the_same(facts: ClusterFacts, ledger: Ledger) -> None:
    plain, compressed = page(facts, ledger), page(facts, ledger, Wanted(compressed=True))
    assert (plain.content_encoding, compressed.content_encoding) == (None, "gzip")
    assert gzip.decompress(compressed.body) == plain.body


@pytest.mark.parametrize("turn", range(60))
def test_a_worker_that_dies_while_the_page_is_made_is_counted_once(
    facts: ClusterFacts, ledger: Ledger, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0)
    monkeypatch.setattr(exposition, "SLOTS_AT_ONCE", 1)
    dying = facts.workers[2]
    RequestCounter(dying.row).request_done(500, 0.1, 0.0)
    present = facts

    async def scrape() -> Page:
        nonlocal present
        source = ClusterSource(lambda: present, ledger, lambda: 100 * SECOND, USAGES.get)
        scraping = asyncio.create_task(render([source], PLAIN))
        for _ in range(turn):
            await asyncio.sleep(0)
        # The worker of slot 2 dies, and its row is that of another worker at once.
        ledger.fold(2, dying.row, 0.25)
        RequestCounter(dying.row).request_done(500, 0.1, 0.0)
        present = replace(facts, workers=(*facts.workers[:2], replace(dying, slot=3, pid=104)))
        return await scraping

    body = asyncio.run(scrape()).body.decode()
    assert 'clusterd_http_requests_total{code="5xx",worker="2"} 1.0' in body
    assert 'clusterd_worker_cpu_seconds_total{worker="2"} 0.25' in body


def test_the_loop_turns_while_a_page_is_made(
    facts: ClusterFacts, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLICE_SECONDS", 0)
    many = replace(facts, slots=tuple(range(1, 65)))

    async def count_turns() -> int:
        scraping = asyncio.create_task(render([ClusterSource(lambda: many, ledger, usage=USAGES.get)], PLAIN))
        turns = 0
        while not scraping.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(count_turns()) > 64 // exposition.SLOTS_AT_ONCE


def test_every_family_says_what_it_is(facts: ClusterFacts, ledger: Ledger) -> None:
    for family in families(facts, ledger):
        assert family.documentation.endswith(".")
        assert family.type != "unknown"
        assert family.name.startswith("clusterd_")
