"""The application, written for CherryPy."""

from typing import Any

import cherrypy
from cherrypy.lib import static

from tests.support.frameworks import shared


class Root:
    @cherrypy.expose
    def hello(self, name: str) -> Any:
        return f"hello {name}"

    @cherrypy.expose
    @cherrypy.tools.json_in()
    @cherrypy.tools.json_out()
    def json(self) -> Any:
        return cherrypy.request.json

    @cherrypy.expose
    def form(self, a: str) -> Any:
        return a

    @cherrypy.expose
    def upload(self) -> Any:
        return cherrypy.request.body.read()

    @cherrypy.expose
    def stream(self) -> Any:
        return shared.pieces()

    @cherrypy.expose
    def file(self) -> Any:
        return static.serve_file(str(shared.FILE), "text/plain")

    @cherrypy.expose
    def events(self, name: str) -> Any:
        cherrypy.response.headers["Content-Type"] = "text/event-stream"
        return shared.events(name)

    @cherrypy.expose
    def flood(self, name: str) -> Any:
        return shared.flood(name)

    @cherrypy.expose
    def background(self, name: str) -> Any:
        cherrypy.request.hooks.attach("on_end_request", lambda: shared.note(name))
        return "later"


def make() -> Any:
    cherrypy.config.update({"environment": "embedded", "engine.autoreload.on": False})
    streams = {"response.stream": True}
    return cherrypy.Application(Root(), "", {f"/{path}": streams for path in ("stream", "events", "flood")})
