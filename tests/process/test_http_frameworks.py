"""Flask and Django behind the engine, asked by a real client."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import django  # type: ignore[import-untyped]
import flask
import pytest
import requests
from django.conf import settings as django_settings  # type: ignore[import-untyped]
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from clusterd.http.settings import HttpSettings
from tests.process.engine_host import Host, serving

DATA = bytes(range(256)) * 1000


def flask_application() -> Callable[..., Any]:
    application = flask.Flask("shop")

    @application.post("/upload")
    def upload() -> dict[str, Any]:
        file = flask.request.files["file"]
        return {"name": flask.request.form["name"], "size": len(file.read()), "remote": flask.request.remote_addr}

    @application.get("/stream")
    def stream() -> Iterator[bytes]:
        return (DATA[start : start + 1000] for start in range(0, len(DATA), 1000))

    @application.get("/file")
    def file() -> flask.Response:
        return flask.send_file(io.BytesIO(DATA), "application/octet-stream")

    @application.get("/cookie")
    def cookie() -> flask.Response:
        response = flask.make_response(flask.request.cookies.get("seen", "new"))
        response.set_cookie("seen", "yes")
        return response

    return application


def upload(request: HttpRequest) -> HttpResponse:
    size = len(request.FILES["file"].read())
    return JsonResponse({"name": request.POST["name"], "size": size, "remote": request.META["REMOTE_ADDR"]})


def stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(DATA[start : start + 1000] for start in range(0, len(DATA), 1000))


def file(_: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(DATA))


def cookie(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("seen", "new"))
    response.set_cookie("seen", "yes")
    return response


urlpatterns = [path("upload", upload), path("stream", stream), path("file", file), path("cookie", cookie)]


def django_application() -> Callable[..., Any]:
    if not django_settings.configured:
        django_settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of no use to anyone")
        django.setup()
    handler: Callable[..., Any] = WSGIHandler()
    return handler


@pytest.fixture(params=[0, 4], ids=["loop", "threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=[flask_application, django_application], ids=["flask", "django"])
def host(request: pytest.FixtureRequest, threads: int) -> Iterator[Host]:
    with serving(request.param(), HttpSettings(threads=threads)) as host:
        yield host
        assert host.notes.errors == []


def test_a_visit(host: Host) -> None:
    base = f"http://127.0.0.1:{host.address[1]}"
    with requests.Session() as session:
        assert [session.get(f"{base}/cookie", timeout=10).text for _ in range(2)] == ["new", "yes"]
        answer = session.post(f"{base}/upload", data={"name": "é"}, files={"file": ("a", DATA)}, timeout=10)
        assert answer.json() == {"name": "é", "size": len(DATA), "remote": "127.0.0.1"}
        for path_ in ("stream", "file"):
            assert session.get(f"{base}/{path_}", timeout=10).content == DATA
        assert session.get(f"{base}/nothing", timeout=10).status_code == 404
        assert session.head(f"{base}/cookie", timeout=10).content == b""
        assert host.call(lambda: len(host.engine.connections)) == 1  # all of it over one kept-alive connection


def chunks() -> Iterator[bytes]:
    yield b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\nx\r\n"
    yield b"--b\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\n" + DATA + b"\r\n--b--\r\n"


def test_a_chunked_upload(host: Host) -> None:
    url = f"http://127.0.0.1:{host.address[1]}/upload"
    answer = requests.post(url, chunks(), headers={"Content-Type": "multipart/form-data; boundary=b"}, timeout=10)
    assert answer.json()["size"] == len(DATA)
