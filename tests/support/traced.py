"""Applications that OpenTelemetry looks at, and what has come of it."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.service import PATIENCE_SECONDS

RECEIVER = Path(__file__).with_name("otlp_receiver.py")

FLASK = """
from flask import Flask
app = Flask(__name__)

@app.get("/order/<int:number>")
def order(number):
    return ordered(number)
"""
FASTAPI = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/order/{number}")
async def order(number: int):
    return ordered(number)
"""
ORDERED = """
import logging, os
from opentelemetry import metrics, trace
orders = metrics.get_meter("shop").create_counter("orders")

def ordered(number):
    trace.get_current_span().set_attributes({"order": number, "pid": os.getpid()})
    orders.add(1)
    logging.getLogger("shop").warning("order %d", number)
    return str(os.getpid())
"""
SET_UP = """
import logging, os
from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if os.environ["OTEL_TRACES_EXPORTER"] == "console":
    from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter as LogExporter
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter as MetricExporter
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter as SpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as LogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as MetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as SpanExporter

traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(SpanExporter()))
trace.set_tracer_provider(traces)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(MetricExporter())]))
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(LogExporter()))
set_logger_provider(logs)
logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
"""
INSTRUMENT = {
    FLASK: "from opentelemetry.instrumentation.flask import FlaskInstrumentor as Instrumentor\n",
    FASTAPI: "from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor as Instrumentor\n",
}


def set_up_by_the_application(framework: str) -> str:
    """The source of an application that sets OpenTelemetry up at its import."""
    return SET_UP + ORDERED + framework + INSTRUMENT[framework] + "Instrumentor().instrument_app(app)\n"


def set_up_by_a_command(framework: str) -> str:
    """The source of an application that `opentelemetry-instrument` sets up."""
    return ORDERED + framework


class Received:
    """What the receiver has got."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._output = process.stdout
        self.port: int = json.loads(process.stdout.readline())
        self._documents: list[Any] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            self._documents.append(json.loads(line))

    def join(self) -> None:
        self._reader.join(PATIENCE_SECONDS)

    @property
    def spans(self) -> list[tuple[str, dict[str, Any]]]:
        """The spans, each with the instance that it is of."""
        return self._of("resourceSpans", "scopeSpans", "spans")

    @property
    def logs(self) -> list[tuple[str, dict[str, Any]]]:
        return self._of("resourceLogs", "scopeLogs", "logRecords")

    @property
    def orders(self) -> dict[str, int]:
        """The last value of the counter, by instance."""
        found: dict[str, int] = {}
        for instance, metric in self._of("resourceMetrics", "scopeMetrics", "metrics"):
            if metric["name"] == "orders":
                [point] = metric["sum"]["dataPoints"]
                found[instance] = max(int(point["asInt"]), found.get(instance, 0))
        return found

    def _of(self, resources: str, scopes: str, records: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (attributes(resource["resource"])["service.instance.id"], record)
            for document in list(self._documents)
            for resource in document.get(resources, ())
            for scope in resource[scopes]
            for record in scope[records]
        ]


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a span, a record or a resource."""
    return {each["key"]: next(iter(each["value"].values())) for each in of["attributes"]}


@contextmanager
def receiver(python: Path) -> Iterator[Received]:
    """An OTLP receiver, under the interpreter that has the protocol."""
    process = subprocess.Popen([python, RECEIVER], stdout=subprocess.PIPE, text=True)
    received = Received(process)
    try:
        yield received
    finally:
        process.kill()
        process.wait()
        received.join()
        assert process.stdout is not None
        process.stdout.close()


def printed_orders(log: str) -> list[tuple[int, int, str]]:
    """Order, pid and instance of each span that the console exporter has printed."""
    span = r'"order": (\d+),\s+"pid": (\d+)\b.*?"service.instance.id": "([^"]+)"'
    return [(int(order), int(pid), instance) for order, pid, instance in re.findall(span, log, re.DOTALL)]
