"""The same small application, written for each framework."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from clusterd.http.settings import Interface

PIECE, PIECES = b"x" * 1000, 100


def pieces() -> Iterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


async def async_pieces() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


def flask_application() -> Any:
    import flask

    application = flask.Flask(__name__)

    @application.get("/hello")
    def hello() -> Any:
        return f"hello {flask.request.args['name']}"

    @application.post("/json")
    def echo() -> Any:
        return flask.jsonify(flask.request.get_json())

    @application.post("/form")
    def form() -> Any:
        return flask.request.form["a"]

    @application.get("/stream")
    def stream() -> Any:
        return flask.Response(pieces())

    return application


def quart_application() -> Any:
    import quart

    application = quart.Quart(__name__)

    @application.get("/hello")
    async def hello() -> Any:
        return f"hello {quart.request.args['name']}"

    @application.post("/json")
    async def echo() -> Any:
        return quart.jsonify(await quart.request.get_json())

    @application.post("/form")
    async def form() -> Any:
        return (await quart.request.form)["a"]

    @application.get("/stream")
    async def stream() -> Any:
        return async_pieces(), 200

    return application


def starlette_application() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route

    async def hello(request: Request) -> Response:
        return PlainTextResponse(f"hello {request.query_params['name']}")

    async def echo(request: Request) -> Response:
        return JSONResponse(await request.json())

    async def stream(request: Request) -> Response:
        return StreamingResponse(async_pieces())

    routes = [Route("/hello", hello), Route("/json", echo, methods=["POST"]), Route("/stream", stream)]
    return Starlette(routes=routes)


def fastapi_application() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse, StreamingResponse

    application = FastAPI()

    @application.api_route("/hello", methods=["GET", "HEAD"], response_class=PlainTextResponse)
    def hello(name: str) -> str:
        # Not async: FastAPI calls it in a thread of its own.
        return f"hello {name}"

    @application.post("/json")
    async def echo(document: dict[str, Any]) -> dict[str, Any]:
        return document

    @application.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(async_pieces())

    return application


def litestar_application() -> Any:
    from litestar import Litestar, get, post
    from litestar.params import FromQuery, JSONBody
    from litestar.response import Stream

    @get("/hello", media_type="text/plain", sync_to_thread=False)
    def hello(name: FromQuery[str]) -> str:
        return f"hello {name}"

    @post("/json", status_code=200)
    async def echo(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        return data

    @get("/stream")
    async def stream() -> Stream:
        return Stream(async_pieces)

    return Litestar([hello, echo, stream])


def _configure_django() -> None:
    import django
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    def hello(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"hello {request.GET['name']}")

    def echo(request: HttpRequest) -> HttpResponse:
        return JsonResponse(json.loads(request.body))

    def form(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.POST["a"])

    def stream(request: HttpRequest) -> StreamingHttpResponse:
        is_asgi = hasattr(request, "scope")
        return StreamingHttpResponse(async_pieces() if is_asgi else pieces())

    patterns = [path("hello", hello), path("json", echo), path("form", form), path("stream", stream)]
    urls = type("urls", (), {"urlpatterns": patterns})
    if not settings.configured:
        settings.configure(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], SECRET_KEY="s", MIDDLEWARE=[])
        django.setup()
    settings.ROOT_URLCONF = urls


def django_wsgi_application() -> Any:
    from django.core.wsgi import get_wsgi_application

    _configure_django()
    return get_wsgi_application()


def django_asgi_application() -> Any:
    from django.core.asgi import get_asgi_application

    _configure_django()
    return get_asgi_application()


PARSE_FORMS = ("flask", "django, wsgi", "django, asgi", "quart")
"""The others need a package more for it."""

APPLICATIONS: dict[str, tuple[Callable[[], Any], Interface]] = {
    "flask": (flask_application, Interface.WSGI),
    "django, wsgi": (django_wsgi_application, Interface.WSGI),
    "django, asgi": (django_asgi_application, Interface.ASGI),
    "starlette": (starlette_application, Interface.ASGI),
    "fastapi": (fastapi_application, Interface.ASGI),
    "quart": (quart_application, Interface.ASGI),
    "litestar": (litestar_application, Interface.ASGI),
}
