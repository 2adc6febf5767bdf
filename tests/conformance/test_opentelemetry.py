"""OpenTelemetry, set up by `opentelemetry-instrument` and by the application, under every way to import it."""

import base64
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.served import PYTHON
from tests.support.service import Service, wait_until
from tests.support.traced import (
    FASTAPI,
    FLASK,
    Received,
    attributes,
    printed_orders,
    receiver,
    set_up_by_a_command,
    set_up_by_the_application,
)

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make conformance makes the frameworks' interpreter")

INSTRUMENT = str(PYTHON.with_name("opentelemetry-instrument"))
SET_UPS = {
    "by the application": (set_up_by_the_application, ()),
    "by a command": (set_up_by_a_command, (INSTRUMENT, "--")),
}
FRAMEWORKS = {"Flask": FLASK, "FastAPI": FASTAPI}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WORKERS, ORDERS = 2, 20

MakeService = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeService]:
    """Make a service with a framework and a way to set OpenTelemetry up."""
    made: list[Service] = []

    def make(framework: str, set_up: str, exporter: str, port: int = 0, **settings: object) -> Service:
        source, inside = SET_UPS[set_up]
        directory = tmp_path / f"service{len(made)}"
        directory.mkdir()
        telemetry = {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            **{f"OTEL_{kind}_EXPORTER": exporter for kind in ("TRACES", "METRICS", "LOGS")},
        }
        service = Service(
            directory,
            {"python": str(PYTHON), "workers": WORKERS, **settings},
            environment=telemetry,
            inside=inside,
        )
        service.deploy("1", source(FRAMEWORKS[framework]))
        made.append(service)
        return service

    yield make
    for service in made:
        service.destroy()
        print(service.log())


@pytest.fixture(scope="module")
def received() -> Iterator[Received]:
    with receiver(PYTHON) as receiving:
        yield receiving


def order_by_all(service: Service, numbers: Iterator[int]) -> dict[int, int]:
    """Have every worker answer some orders. Returns the pid that has answered each."""
    pids: dict[int, int] = {}
    wanted = {worker["pid"] for worker in service.workers()}

    def have_all_answered() -> bool:
        number = next(numbers)
        pids[number] = int(service.get(f"/order/{number}").text.strip('"'))
        return wanted <= set(pids.values()) and len(pids) >= ORDERS

    wait_until(have_all_answered, "each worker answers")
    return pids


def live(service: Service, numbers: Iterator[int]) -> dict[int, int]:
    """Start, order, reload, order, replace a worker, order, stop. Returns the pid that has answered each order."""
    service.start()
    pids = order_by_all(service, numbers)
    done = service.ask_to_reload()
    assert done["succeeded"], done
    pids |= order_by_all(service, numbers)
    assert service.clusterctl("restart", "1").returncode == 0
    pids |= order_by_all(service, numbers)
    assert service.stop() == 0
    assert "was cut" not in service.log()
    return pids


@pytest.mark.parametrize("preload", ["auto", True, False], ids=["auto", "on", "off"])
@pytest.mark.parametrize("set_up", SET_UPS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_is_lost_and_each_worker_is_an_instance(
    make: MakeService, received: Received, framework: str, set_up: str, *, preload: str | bool
) -> None:
    before = len(received.spans), len(received.logs), set(received.orders)
    service = make(framework, set_up, "otlp", received.port, preload=preload)
    pids = live(service, iter(range(10_000)))
    assert "not preloaded" not in service.log()
    assert "not survive" not in service.log()
    seen = [(instance, attributes(span)) for instance, span in received.spans[before[0] :]]
    ordered = [(instance, found) for instance, found in seen if "order" in found]
    assert sorted(int(found["order"]) for _, found in ordered) == sorted(pids)
    assert {int(found["order"]): int(found["pid"]) for _, found in ordered} == pids
    instances = {(instance, int(found["pid"])) for instance, found in ordered}
    # Two before the reload, two after it, and one that has replaced one of these.
    assert len(instances) == len({pid for _, pid in instances}) == len({each for each, _ in instances}) == 5
    logged = [record["body"]["stringValue"] for _, record in received.logs[before[1] :]]
    assert sorted(each for each in logged if each.startswith("order")) == sorted(f"order {each}" for each in pids)
    counted = {each: value for each, value in received.orders.items() if each not in before[2]}
    assert counted == Counter(instance for instance, _ in ordered)


@pytest.mark.parametrize("set_up", SET_UPS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_printed_is_whole(make: MakeService, framework: str, set_up: str) -> None:
    service = make(framework, set_up, "console")
    pids = live(service, iter(range(10_000)))
    printed = printed_orders(service.log())
    assert {order: pid for order, pid, _ in printed} == pids
    assert len(printed) == len(pids)
    assert len({(pid, instance) for _, pid, instance in printed}) == 5


@pytest.mark.parametrize("set_up", SET_UPS)
def test_workers_that_are_recycled_lose_nothing(make: MakeService, received: Received, set_up: str) -> None:
    before = len(received.spans)
    service = make("Flask", set_up, "otlp", received.port, limits={"max_requests": 10})
    service.start()
    pids = {number: int(service.get(f"/order/{number}").text) for number in range(100)}
    assert service.stop() == 0
    assert len(set(pids.values())) > 2  # Two workers, and those that have replaced them.
    ordered = [attributes(span) for _, span in received.spans[before:]]
    assert {int(each["order"]): int(each["pid"]) for each in ordered if "order" in each} == pids


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_trace_of_a_proxy_goes_on(make: MakeService, received: Received, framework: str) -> None:
    before = len(received.spans)
    service = make(framework, "by a command", "otlp", received.port).start()
    service.get("/order/77", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert service.stop() == 0
    spans = [span for _, span in received.spans[before:] if attributes(span).get("order") == "77"]
    found = [(base64.b64decode(each["traceId"]).hex(), base64.b64decode(each["parentSpanId"]).hex()) for each in spans]
    assert (TRACE, PARENT) in found


def test_a_master_that_is_instrumented_too_is_as_any(make: MakeService, received: Received) -> None:
    service = make("Flask", "by a command", "otlp", received.port)
    service.python = str(PYTHON)
    service.start()
    assert len(os.listdir(f"/proc/{service.pid}/task")) > 1
    os.kill(service.workers()[0]["pid"], signal.SIGKILL)
    service.wait_for_line("worker failed: SIGKILL")
    service.wait_for_status("^Serving: 2 workers")
    service.signal(signal.SIGHUP)
    service.wait_for_line("reload succeeded")
    assert service.get("/order/1").status_code == 200
    assert service.stop() == 0


def test_a_worker_ends_although_nobody_receives(make: MakeService) -> None:
    with receiver(PYTHON) as gone:
        port = gone.port
    service = make("Flask", "by the application", "otlp", port, timeouts={"drain": "2s"}).start()
    service.get("/order/1")
    assert service.stop() == 0
    assert "SIGKILL" not in service.log()


def test_the_exporter_by_grpc_is_named_and_not_forked(make: MakeService) -> None:
    service = make("Flask", "by the application", "otlp")
    by_grpc = service.application.read_text().replace("otlp.proto.http", "otlp.proto.grpc")
    service.deploy("1", by_grpc)
    service.start()
    assert "is running (gRPC)" in service.wait_for_line("not preloaded")
    assert service.get("/order/1").status_code == 200


def test_an_environment_in_the_configuration_instruments_the_workers_alone(
    make: MakeService, received: Received
) -> None:
    """As docs/tracing.md has it for a service, whose command line is the unit's."""
    found = subprocess.run([PYTHON, "-c", WHERE], capture_output=True, text=True, check=True).stdout.strip()
    before = len(received.spans)
    service = make("Flask", "by a command", "otlp", received.port)
    service.inside = ()
    service.configure(environment={"PYTHONPATH": found, **service.environment})
    service.start()
    assert len(os.listdir(f"/proc/{service.pid}/task")) == 1
    service.get("/order/5")
    assert service.stop() == 0
    assert [attributes(span)["order"] for _, span in received.spans[before:]] == ["5"]


WHERE = "from opentelemetry.instrumentation import auto_instrumentation as found; print(*found.__path__)"
