"""What the master observes of a whole service: queues, memory, boots, rollouts, backoff and certificates."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from tests.support.certificates import Certificate, make_certificate
from tests.support.ports import free_port
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]


TALKATIVE = """
def app(environ, start_response):
    raise RuntimeError("x" * 100_000)
"""


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def values(service: Service, name: str) -> dict[str, float]:
    """The values of a metric by the value of its only label, which is "" if it has none."""
    found = {}
    for family in text_string_to_metric_families(service.metrics().text):
        for sample in family.samples:
            if sample.name == name:
                found["".join(sample.labels.values())] = sample.value
    return found


def signal_workers(service: Service, number: int) -> None:
    for worker in service.workers():
        os.kill(worker["pid"], number)


def connect(opened: ExitStack, address: str | tuple[str, int], times: int) -> None:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    for _ in range(times):
        opened.enter_context(socket.socket(family)).connect(address)


def test_connections_that_no_worker_accepts_are_seen_in_the_queue_of_their_socket(
    make_service: MakeService, opened: ExitStack, tmp_path: Path
) -> None:
    service, path = make_service(), str(tmp_path / "http.sock")
    tcp = f"127.0.0.1:{service.port}"
    service.configure(listen=[tcp, f"unix:{path}"])
    service.start()
    empty = {tcp: 0, f"unix:{path}": 0}
    assert values(service, "clusterd_listen_backlog") == empty
    limit = min(2048, int(Path("/proc/sys/net/core/somaxconn").read_text()))
    assert values(service, "clusterd_listen_backlog_limit") == {tcp: limit, f"unix:{path}": limit}

    signal_workers(service, signal.SIGSTOP)
    connect(opened, ("127.0.0.1", service.port), 7)
    connect(opened, path, 3)
    assert values(service, "clusterd_listen_backlog") == {tcp: 7, f"unix:{path}": 3}
    signal_workers(service, signal.SIGCONT)
    wait_until(lambda: values(service, "clusterd_listen_backlog") == empty, "the workers have accepted all")


def test_a_full_queue_is_seen_as_full(make_service: MakeService, opened: ExitStack, tmp_path: Path) -> None:
    service, path = make_service(), str(tmp_path / "http.sock")
    service.configure(listen=[f"unix:{path}"])
    service.start()
    limit = values(service, "clusterd_listen_backlog_limit")[f"unix:{path}"]
    signal_workers(service, signal.SIGSTOP)
    with pytest.raises(BlockingIOError):
        for _ in range(int(limit) + 2):
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(path)
    assert values(service, "clusterd_listen_backlog")[f"unix:{path}"] == limit + 1
    signal_workers(service, signal.SIGCONT)


def test_with_round_robin_the_queue_is_that_of_the_master(make_service: MakeService) -> None:
    service = make_service(scheduling="round_robin").start()
    assert values(service, "clusterd_listen_backlog") == {f"127.0.0.1:{service.port}": 0}


def test_the_memory_of_every_worker_is_measured_and_has_an_age(make_service: MakeService) -> None:
    service = make_service(workers=3).start()
    wait_until(lambda: set(values(service, "clusterd_worker_pss_bytes")) == {"1", "2", "3"}, "all are measured")
    pss, private, ages, resident = (
        values(service, f"clusterd_worker_{name}")
        for name in ("pss_bytes", "private_memory_bytes", "memory_age_seconds", "resident_memory_bytes")
    )
    for slot in ("1", "2", "3"):
        assert 0 < private[slot] <= pss[slot] < resident[slot]
        assert ages[slot] >= 0


def test_rollouts_imports_and_boots_are_timed(make_service: MakeService) -> None:
    service = make_service().start()
    assert values(service, "clusterd_rollout_duration_seconds") == {}
    assert values(service, "clusterd_template_import_seconds")[""] > 0
    assert set(values(service, "clusterd_worker_boot_seconds")) == {"1", "2"}
    assert min(values(service, "clusterd_worker_boot_seconds").values()) > 0
    assert service.reload().returncode == 0
    succeeded = values(service, "clusterd_rollout_duration_seconds")
    assert set(succeeded) == {"succeeded"}
    assert succeeded["succeeded"] > values(service, "clusterd_template_import_seconds")[""]
    service.deploy("2", "raise RuntimeError")
    assert service.reload().returncode == 1
    assert set(values(service, "clusterd_rollout_duration_seconds")) == {"succeeded", "failed"}
    assert values(service, "clusterd_rollout_duration_seconds")["succeeded"] == succeeded["succeeded"]


def test_a_slot_whose_workers_keep_failing_shows_how_often_and_until_when(make_service: MakeService) -> None:
    service = make_service(preload=False).start()
    assert values(service, "clusterd_worker_backoff_failures") == {"1": 0, "2": 0}
    service.deploy("2", "raise RuntimeError")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    wait_until(lambda: values(service, "clusterd_worker_backoff_failures")["1"] >= 2, "it fails again and again")
    wait_until(lambda: values(service, "clusterd_worker_backoff_seconds")["1"] > 0, "it waits for the next try")
    assert values(service, "clusterd_worker_backoff_failures")["2"] == 0
    assert values(service, "clusterd_worker_backoff_seconds")["2"] == 0
    service.deploy("3")
    service.wait_for_status("^Serving: 2 workers, generation 1$")
    assert values(service, "clusterd_worker_backoff_failures") == {"1": 0, "2": 0}


def test_the_end_of_the_served_certificate_is_shown_and_warned_of(make_service: MakeService, tmp_path: Path) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3, hours=12)
    served, renewed = make_certificate(tmp_path / "served", ends=soon), make_certificate(tmp_path / "renewed")
    path = str(served.combined)
    service = make_service(tls={"listen": [f"127.0.0.1:{free_port()}"], "certificate": path}).start()
    name = "clusterd_tls_certificate_not_after_timestamp_seconds"
    assert values(service, name) == {path: soon.timestamp()}
    service.wait_for_line(f"warning: tls.certificate: {path} expires in 3 days, at {soon:%Y-%m-%d %H:%M:%S} UTC: ")

    shutil.copy(renewed.combined, path)
    assert values(service, name) == {path: soon.timestamp()}, "this one is served until the reload"
    assert service.reload().returncode == 0
    assert values(service, name) == {path: end_of(renewed)}
    assert service.log().count("expires in") == 1


def test_without_a_certificate_none_is_shown(make_service: MakeService) -> None:
    assert values(make_service().start(), "clusterd_tls_certificate_not_after_timestamp_seconds") == {}


def test_log_records_that_nobody_takes_are_counted(
    make_service: MakeService, opened: ExitStack, tmp_path: Path
) -> None:
    service, log = make_service(workers=1), tmp_path / "log"
    service.deploy("1", TALKATIVE)
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    opened.callback(os.close, reader)
    service.inside = ("sh", "-c", f'exec "$@" 2> {log}', "sh")
    service.start()
    assert values(service, "clusterd_log_records_dropped_total") == {"1": 0}
    assert values(service, "clusterd_master_log_records_dropped_total") == {"": 0}

    def dropped() -> float:
        assert service.get().status_code == 500
        return values(service, "clusterd_log_records_dropped_total")["1"]

    lost = wait_until(dropped, "the buffer is full")
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    service.wait_for_status("^Serving: 1 worker, generation 1$")
    assert values(service, "clusterd_log_records_dropped_total")["1"] >= lost


def end_of(certificate: Certificate) -> float:
    return x509.load_pem_x509_certificate(certificate.certificate.read_bytes()).not_valid_after_utc.timestamp()
