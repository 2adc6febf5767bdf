"""Two frameworks in one process, as a shop and its interface would be."""

import fastapi
import flask

app = flask.Flask(__name__)
interface = fastapi.FastAPI()


@app.get("/")
def index() -> flask.Response:
    """A small document."""
    return flask.jsonify(message="Hello, World!", numbers=list(range(10)))


@interface.get("/")
async def document() -> dict[str, str]:
    """Another one."""
    return {"message": "Hello, World!"}
