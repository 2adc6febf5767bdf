"""The application, written for Flask."""

from typing import Any

import flask

from tests.support.frameworks import shared


def make() -> Any:
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

    @application.post("/upload")
    def upload() -> Any:
        return flask.Response(flask.request.stream.read(), mimetype="application/octet-stream")

    @application.get("/stream")
    def stream() -> Any:
        return flask.Response(shared.pieces())

    @application.get("/file")
    def file() -> Any:
        return flask.send_file(shared.FILE)

    @application.get("/events")
    def events() -> Any:
        return flask.Response(shared.events(flask.request.args["name"]), mimetype="text/event-stream")

    @application.get("/flood")
    def flood() -> Any:
        return flask.Response(shared.flood(flask.request.args["name"]))

    @application.get("/background")
    def background() -> Any:
        response, name = flask.Response("later"), flask.request.args["name"]
        response.call_on_close(lambda: shared.note(name))
        return response

    return application
