"""The metrics page, read with Prometheus's own parsers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.kernel.procfs import ProcessUsage
from clusterd.metrics.page.exposition import render
from clusterd.metrics.page.facts import ClusterFacts, HooksFacts, Phase, WorkerFacts
from clusterd.metrics.page.ledger import Ledger
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.scoreboard import Scoreboard

Labels = dict[str, str]

SECOND = 1_000_000_000
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
        row.in_flight = 1
        RequestCounter(row).request_done(200, 0.002)
        RequestCounter(row).request_done(404, 0.3)
        row.heartbeat = (100 - connections) * SECOND
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
        restarts={(1, "signal"): 2},
        restart_reasons=("hang", "signal"),
        rollouts={"succeeded": 1, "failed": 0},
        rollout_under_way=True,
        reload_successful=True,
        reloaded_at=950.0,
        orphans_reaped=5,
        messages_dropped=6,
    )


def page(facts: ClusterFacts, ledger: Ledger, accept: str = "") -> tuple[str, str]:
    content_type, body = render(facts, ledger, accept, lambda: 100 * SECOND, USAGES.get)
    return content_type, body.decode()


def samples(facts: ClusterFacts, ledger: Ledger) -> dict[str, list[tuple[Labels, float]]]:
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in families(facts, ledger):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def families(facts: ClusterFacts, ledger: Ledger) -> list[Metric]:
    return list(text_string_to_metric_families(page(facts, ledger)[1]))


def by_worker(found: list[tuple[Labels, float]]) -> dict[str, float]:
    return {labels["worker"]: value for labels, value in found}


def test_a_slot_is_the_sum_of_its_living_and_dead_processes(
    facts: ClusterFacts, ledger: Ledger, scoreboard: Scoreboard
) -> None:
    dead = scoreboard.row(scoreboard.lease())
    RequestCounter(dead).request_done(200, 20.0)
    dead.connections = 50
    ledger.fold(1, dead, 10.0)
    found = samples(facts, ledger)
    requests = {(labels["worker"], labels["code"]): value for labels, value in found["clusterd_http_requests_total"]}
    assert requests["1", "2xx"] == 3
    assert requests["1", "4xx"] == 2
    assert requests["1", "5xx"] == requests["3", "2xx"] == 0
    assert by_worker(found["clusterd_http_connections"]) == {"1": 7, "2": 0, "3": 0}
    assert by_worker(found["clusterd_http_requests_in_flight"]) == {"1": 2, "2": 0, "3": 0}
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


def test_durations_are_a_cumulative_histogram(facts: ClusterFacts, ledger: Ledger) -> None:
    found = samples(facts, ledger)
    name = "clusterd_http_request_duration_seconds"
    buckets = [(labels["le"], value) for labels, value in found[f"{name}_bucket"] if labels["worker"] == "1"]
    assert [le for le, _ in buckets][:3] == ["0.001", "0.0025", "0.005"]
    assert dict(buckets)["0.001"] == 0
    assert dict(buckets)["0.0025"] == dict(buckets)["0.25"] == 2
    assert dict(buckets)["0.5"] == dict(buckets)["+Inf"] == 4
    assert by_worker(found[f"{name}_count"])["1"] == 4
    assert by_worker(found[f"{name}_sum"])["1"] == pytest.approx(0.604)


def test_every_restart_series_exists_before_the_first_restart(facts: ClusterFacts, ledger: Ledger) -> None:
    restarts = samples(facts, ledger)["clusterd_worker_restarts_total"]
    assert {(labels["worker"], labels["reason"]): value for labels, value in restarts} == {
        (worker, reason): 2 if (worker, reason) == ("1", "signal") else 0
        for worker in ("1", "2", "3")
        for reason in ("hang", "signal")
    }


def test_a_slot_scaled_away_keeps_its_counts(facts: ClusterFacts, ledger: Ledger, scoreboard: Scoreboard) -> None:
    row = scoreboard.row(scoreboard.lease())
    RequestCounter(row).request_done(200, 0.1)
    ledger.fold(9, row, 0.0)
    found = samples(facts, ledger)
    assert ({"worker": "9", "code": "2xx"}, 1.0) in found["clusterd_http_requests_total"]
    assert by_worker(found["clusterd_worker_up"])["9"] == 0


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
    _, body = render(facts, ledger, usage=lambda pid: None)
    assert b"clusterd_master_open_fds" not in body
    assert b'clusterd_worker_open_fds{worker="1"} 0.0' in body


def test_open_metrics_are_given_to_those_who_prefer_them(facts: ClusterFacts, ledger: Ledger) -> None:
    content_type, text = page(facts, ledger, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    parsed = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    names = {family.name for family in parsed}
    assert {"clusterd_http_requests", "clusterd_http_request_duration_seconds", "clusterd_build"} <= names
    assert page(facts, ledger)[0].startswith("text/plain")


def test_every_family_says_what_it_is(facts: ClusterFacts, ledger: Ledger) -> None:
    for family in families(facts, ledger):
        assert family.documentation.endswith(".")
        assert family.type != "unknown"
        assert family.name.startswith("clusterd_")
