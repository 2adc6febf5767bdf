"""Libraries that count an application's requests with prometheus_client, each with its ordinary set-up."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.served import PYTHON, ROOT
from tests.support.service import Service, wait_until

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make conformance makes the frameworks' interpreter")

REQUESTS = 40
OLDER = ("bookworm", "trixie")
"""What Debian has. The interpreter of the frameworks has PyPI's."""


@dataclass(frozen=True)
class Library:
    """An application that uses it as its documentation says, and the counter of its requests to /hello."""

    source: str
    counter: str
    labels: dict[str, str]
    own_page: str = "/metrics"


FLASK = Library(
    """
from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics
app = Flask(__name__)
metrics = PrometheusMetrics(app)
metrics.info("app_info", "Application info", version="1.0.3")
@app.route("/hello")
def hello():
    return "hello"
""",
    "flask_http_request_total",
    {"method": "GET", "status": "200"},
)
FASTAPI = Library(
    """
from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator
app = FastAPI()
@app.get("/hello")
def hello():
    return "hello"
Instrumentator().instrument(app).expose(app)
""",
    "http_requests_total",
    {"handler": "/hello", "method": "GET", "status": "2xx"},
)
STARLETTE = Library(
    """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette_exporter import PrometheusMiddleware, handle_metrics
app = Starlette()
app.add_middleware(PrometheusMiddleware)
app.add_route("/metrics", handle_metrics)
async def hello(request):
    return PlainTextResponse("hello")
app.add_route("/hello", hello)
""",
    "starlette_requests_total",
    {"method": "GET", "path": "/hello", "status_code": "200"},
)
DJANGO = Library(
    """
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="app",
    INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)
import django
django.setup()
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path
urlpatterns = [
    path("hello", lambda request: HttpResponse("hello"), name="hello"),
    path("", include("django_prometheus.urls")),
]
app = get_wsgi_application()
""",
    "django_http_requests_total_by_view_transport_method_total",
    {"method": "GET", "transport": "http", "view": "hello"},
)
PLAIN = Library(
    """
import prometheus_client
HELLOS = prometheus_client.Counter("hellos", "Hellos.", ["who"])
prometheus_client.Gauge("wsgi_threads", "Threads.", multiprocess_mode="livesum").set(4)
page = prometheus_client.make_wsgi_app()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        return page(environ, start_response)
    HELLOS.labels("world").inc()
    start_response("200 OK", [("X-Version", "1")])
    return [b"hello"]
""",
    "hellos_total",
    {"who": "world"},
)
MOUNTED = Library(
    """
import prometheus_client
from prometheus_client.multiprocess import MultiProcessCollector
HELLOS = prometheus_client.Counter("hellos", "Hellos.", ["who"])
async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/metrics":
        registry = prometheus_client.CollectorRegistry()
        MultiProcessCollector(registry)
        return await prometheus_client.make_asgi_app(registry)(scope, receive, send)
    if scope["type"] == "http":
        await receive()
        HELLOS.labels("world").inc()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
""",
    "hellos_total",
    {"who": "world"},
)
GREENLETS = Library(f"from gevent import monkey; monkey.patch_all()\n{PLAIN.source}", PLAIN.counter, PLAIN.labels)

LIBRARIES = {
    "prometheus_flask_exporter": FLASK,
    "prometheus-fastapi-instrumentator": FASTAPI,
    "starlette-exporter": STARLETTE,
    "django-prometheus": DJANGO,
    "make_wsgi_app": PLAIN,
    "make_asgi_app": MOUNTED,
    "gevent": GREENLETS,
}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Serve an application with two workers."""
    made: list[Service] = []

    def start(library: Library, environment: dict[str, str]) -> Service:
        service = Service(tmp_path, {"python": str(PYTHON), "environment": environment, "workers": 2, "threads": 2})
        made.append(service)
        service.deploy("1", library.source)
        return service.start()

    yield start
    for service in made:
        service.destroy()
        print(f"--- log\n{service.log()}")


def found(text: str, library: Library) -> dict[str, float]:
    """The values of the library's counter on a page, by worker."""
    return {
        sample.labels.get("worker", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == library.counter and sample.labels.items() >= library.labels.items()
    }


def check(service: Service, library: Library) -> None:
    """Send requests, and kill every worker once in between."""
    for number in range(REQUESTS):
        if number in (10, 25):
            kill_one(service, number % 2)
        assert service.get("/hello").status_code == 200
    counted = found(service.metrics().text, library)
    assert sum(counted.values()) == REQUESTS
    assert set(counted) <= {"1", "2"}
    assert len(re.findall(r"^process_open_fds\{", service.metrics().text, re.M)) == 2
    own = [found(service.get(library.own_page).text, library) for _ in range(6)]
    assert own == [{"": REQUESTS}] * 6
    assert service.reload().returncode == 0
    assert sum(found(service.metrics().text, library).values()) == REQUESTS


def kill_one(service: Service, index: int) -> None:
    """Kill a worker, and wait until there are two again."""
    victim = service.workers()[index]["pid"]
    os.kill(victim, signal.SIGKILL)

    def are_two() -> bool:
        pids = {each["pid"] for each in service.workers()}
        return len(pids) == 2 and victim not in pids

    wait_until(are_two, "a successor")


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_ordinary_set_up_counts_every_request_once(serve: Callable[..., Service], name: str) -> None:
    library = LIBRARIES[name]
    check(serve(library, {}), library)


def test_a_directory_for_several_processes_stays_empty(serve: Callable[..., Service], tmp_path: Path) -> None:
    directory = tmp_path / "several"
    directory.mkdir()
    check(serve(MOUNTED, {"PROMETHEUS_MULTIPROC_DIR": str(directory)}), MOUNTED)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("suite", OLDER)
def test_older_versions_beside_the_application(serve: Callable[..., Service], tmp_path: Path, suite: str) -> None:
    target, locked = tmp_path / "older", ROOT / f"requirements/prometheus-{suite}.txt"
    install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--target", str(target), "-r", str(locked)]
    subprocess.run([str(PYTHON), *install], check=True)
    for library in (PLAIN, MOUNTED):
        service = serve(library, {"PYTHONPATH": str(target)})
        check(service, library)
        service.stop()
