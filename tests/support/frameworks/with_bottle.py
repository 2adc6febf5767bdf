"""The application, written for Bottle."""

from typing import Any

import bottle

from tests.support.frameworks import shared


def make() -> Any:
    application = bottle.Bottle()
    bottle.BaseRequest.MEMFILE_MAX = 10_000_000

    @application.get("/hello")
    def hello() -> Any:
        return f"hello {bottle.request.query.getunicode('name')}"

    @application.post("/json")
    def echo() -> Any:
        return bottle.request.json

    @application.post("/form")
    def form() -> Any:
        return bottle.request.forms["a"]

    @application.post("/upload")
    def upload() -> Any:
        return bottle.request.body.read()

    @application.get("/stream")
    def stream() -> Any:
        return shared.pieces()

    @application.get("/file")
    def file() -> Any:
        return bottle.static_file(shared.FILE.name, root=str(shared.FILE.parent))

    @application.get("/events")
    def events() -> Any:
        bottle.response.content_type = "text/event-stream"
        return shared.events(bottle.request.query["name"])

    @application.get("/flood")
    def flood() -> Any:
        return shared.flood(bottle.request.query["name"])

    return application
