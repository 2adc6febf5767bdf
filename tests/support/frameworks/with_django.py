"""The application, written for Django, by both of its interfaces."""

import json
from typing import Any

import django
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from tests.support.frameworks import shared


def is_asgi(request: HttpRequest) -> bool:
    return hasattr(request, "scope")


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"hello {request.GET['name']}")


def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse(json.loads(request.body))


def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST["a"])


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type="application/octet-stream")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(shared.async_pieces() if is_asgi(request) else shared.pieces())


def file(_: HttpRequest) -> FileResponse:
    return FileResponse(shared.FILE.open("rb"))


def events(request: HttpRequest) -> StreamingHttpResponse:
    sends = shared.async_events if is_asgi(request) else shared.events
    return StreamingHttpResponse(sends(request.GET["name"]), content_type="text/event-stream")


def flood(request: HttpRequest) -> StreamingHttpResponse:
    sends = shared.async_flood if is_asgi(request) else shared.flood
    return StreamingHttpResponse(sends(request.GET["name"]))


VIEWS = {"hello": hello, "json": echo, "form": form, "upload": upload, "stream": stream, "file": file}
URLS = type(
    "urls",
    (),
    {"urlpatterns": [path(name, view) for name, view in {**VIEWS, "events": events, "flood": flood}.items()]},
)


def configure(**more: Any) -> None:
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="s", MIDDLEWARE=[], ROOT_URLCONF=URLS, **more)
        django.setup()


def make_wsgi() -> Any:
    from django.core.wsgi import get_wsgi_application

    configure()
    return get_wsgi_application()


def make_asgi() -> Any:
    from django.core.asgi import get_asgi_application

    configure()
    return get_asgi_application()
