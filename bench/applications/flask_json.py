"""A JSON endpoint in Flask."""

import flask

app = flask.Flask(__name__)


@app.get("/")
def index() -> flask.Response:
    """A small document."""
    return flask.jsonify(message="Hello, World!", numbers=list(range(10)))
