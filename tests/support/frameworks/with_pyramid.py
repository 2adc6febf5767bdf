"""The application, written for Pyramid."""

from typing import Any

from pyramid.config import Configurator
from pyramid.response import FileResponse, Response

from tests.support.frameworks import shared


def hello(request: Any) -> Any:
    return Response(f"hello {request.params['name']}")


def echo(request: Any) -> Any:
    return Response(json_body=request.json_body)


def form(request: Any) -> Any:
    return Response(request.POST["a"])


def upload(request: Any) -> Any:
    return Response(body=request.body, content_type="application/octet-stream")


def stream(_: Any) -> Any:
    return Response(app_iter=shared.pieces())


def file(request: Any) -> Any:
    return FileResponse(str(shared.FILE), request=request)


def events(request: Any) -> Any:
    return Response(app_iter=shared.events(request.params["name"]), content_type="text/event-stream")


def flood(request: Any) -> Any:
    return Response(app_iter=shared.flood(request.params["name"]))


VIEWS = {"hello": hello, "json": echo, "form": form, "upload": upload, "stream": stream, "file": file}


def make() -> Any:
    with Configurator() as configuration:
        for name, view in {**VIEWS, "events": events, "flood": flood}.items():
            configuration.add_route(name, f"/{name}")
            configuration.add_view(view, route_name=name)
        return configuration.make_wsgi_app()
