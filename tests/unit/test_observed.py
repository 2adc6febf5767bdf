"""What the master observes, as it stands on the metrics page."""

import asyncio
from dataclasses import replace

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.kernel.backlog import Backlog
from clusterd.metrics.kernel.cgroup import CgroupUsage
from clusterd.metrics.page.exposition import render
from clusterd.metrics.page.negotiation import Form, Wanted
from clusterd.metrics.page.observed import Observed, ObservedSource, Release, SlotBackoff, SlotMemory, WeightSource

pytestmark = pytest.mark.engine_independent

OBSERVED = Observed(
    backlogs={"127.0.0.1:80": Backlog(3, 128), "unix:/run/x": Backlog(0, 2048)},
    memory={1: SlotMemory(30_000, 10_000, 12.5)},
    oom_kills={1: 0, 2: 4},
    backoffs={1: SlotBackoff(0, 0.0), 2: SlotBackoff(3, 1.5)},
    boot_seconds={1: 0.25},
    cgroup=CgroupUsage(1.5, 2.5, 0.5, 1_000_000, 2_000_000, 7),
    rollout_seconds={"succeeded": 9.5},
    import_seconds=1.25,
    certificates={"/etc/shop.pem": 1_800_000_000.0},
    log_records_dropped=11,
    release=Release("2026-11-28", "0a1b"),
)


def samples(observed: Observed, form: Form = Form.TEXT) -> dict[str, dict[str, float]]:
    """The values by name and by the value of the only label."""
    body = asyncio.run(render([ObservedSource(lambda: observed)], Wanted(form))).body.decode()
    parse = openmetrics.text_string_to_metric_families if form is Form.OPENMETRICS else text_string_to_metric_families
    found: dict[str, dict[str, float]] = {}
    for family in parse(body):
        for sample in family.samples:
            found.setdefault(sample.name, {})["".join(sample.labels.values())] = sample.value
    return found


@pytest.mark.parametrize("form", Form)
def test_everything_that_was_observed_is_on_the_page(form: Form) -> None:
    assert samples(OBSERVED, form) == {
        "clusterd_release_info": {"0a1b2026-11-28": 1},
        "clusterd_listen_backlog": {"127.0.0.1:80": 3, "unix:/run/x": 0},
        "clusterd_listen_backlog_limit": {"127.0.0.1:80": 128, "unix:/run/x": 2048},
        "clusterd_worker_pss_bytes": {"1": 30_000},
        "clusterd_worker_private_memory_bytes": {"1": 10_000},
        "clusterd_worker_memory_age_seconds": {"1": 12.5},
        "clusterd_worker_oom_kills_total": {"1": 0, "2": 4},
        "clusterd_worker_boot_seconds": {"1": 0.25},
        "clusterd_worker_backoff_failures": {"1": 0, "2": 3},
        "clusterd_worker_backoff_seconds": {"1": 0, "2": 1.5},
        "clusterd_cgroup_cpu_waiting_seconds_total": {"": 1.5},
        "clusterd_cgroup_memory_waiting_seconds_total": {"": 2.5},
        "clusterd_cgroup_memory_stalled_seconds_total": {"": 0.5},
        "clusterd_cgroup_memory_bytes": {"": 1_000_000},
        "clusterd_cgroup_memory_limit_bytes": {"": 2_000_000},
        "clusterd_cgroup_oom_kills_total": {"": 7},
        "clusterd_rollout_duration_seconds": {"succeeded": 9.5},
        "clusterd_template_import_seconds": {"": 1.25},
        "clusterd_tls_certificate_not_after_timestamp_seconds": {"/etc/shop.pem": 1_800_000_000},
        "clusterd_master_log_records_dropped_total": {"": 11},
    }


def test_what_is_not_known_has_no_family_at_all() -> None:
    unknown = replace(
        OBSERVED,
        backlogs={},
        memory={},
        boot_seconds={},
        cgroup=CgroupUsage(),
        rollout_seconds={},
        import_seconds=None,
        certificates={},
        release=None,
    )
    assert set(samples(unknown)) == {
        "clusterd_worker_oom_kills_total",
        "clusterd_worker_backoff_failures",
        "clusterd_worker_backoff_seconds",
        "clusterd_master_log_records_dropped_total",
    }


@pytest.mark.parametrize(("weight", "written"), [(42.5, "clusterd_agent_weight_percent 42.5\n"), (None, "")])
def test_the_weight_is_there_only_where_there_is_an_agent(weight: float | None, written: str) -> None:
    body = asyncio.run(render([WeightSource(lambda: weight)], Wanted(Form.TEXT))).body.decode()
    assert "".join(line for line in body.splitlines(keepends=True) if not line.startswith("#")) == written
