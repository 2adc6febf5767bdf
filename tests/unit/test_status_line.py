"""What the status says in a line."""

from clusterd.supervisor.model.backoff import Backoff
from clusterd.supervisor.model.cluster import ClusterState, FailedReload, Phase
from clusterd.supervisor.status import status_line


def test_the_status_line_keeps_saying_that_a_reload_failed() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=7, wanted=0)
    assert status_line(cluster, str) == "Serving: 0 workers, generation 7"
    cluster.reloaded_at = 11.0
    assert status_line(cluster, lambda at: f"<{at}>") == "Serving: 0 workers, generation 7; reloaded at <11.0>"
    cluster.failed_reload = FailedReload(3, "SyntaxError\n at app.py:1 " + "x" * 500, 12.0)
    line = status_line(cluster, lambda at: f"<{at}>")
    assert line.startswith("Serving: 0 workers, generation 7; reload FAILED at <12.0>: SyntaxError at app.py:1 x")
    assert len(line) < 400
    assert "\n" not in line


def test_a_long_reason_keeps_the_place_at_its_end() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=7, wanted=0)
    cluster.failed_reload = FailedReload(3, f"ValidationError: {'x' * 500} (/srv/app/settings.py:7)", 12.0)
    line = status_line(cluster, str)
    assert "reload FAILED at 12.0: ValidationError: x" in line
    assert line.endswith("x (/srv/app/settings.py:7)")


def test_the_status_line_says_why_a_worker_is_missing() -> None:
    cluster = ClusterState(phase=Phase.RUNNING, serving=7, wanted=2)
    for _ in range(3):
        cluster.table.backoffs[2] = cluster.table.backoffs.get(2, Backoff()).after_failure(20.0, 0.0, "no database")
    assert status_line(cluster, lambda at: f"<{at}>") == (
        "Serving: 0 of 2 workers, generation 7; worker 2 has failed 3 times, again at <21.0>: no database"
    )
