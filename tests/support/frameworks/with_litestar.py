"""The application, written for Litestar."""

from typing import Any

from litestar import Litestar, Request, WebSocket, get, head, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.params import FromQuery, JSONBody
from litestar.response import File, Response, ServerSentEvent, Stream

from tests.support.frameworks import shared


async def start(application: Litestar) -> None:
    application.state.started = "started"


async def stop(_: Litestar) -> None:
    shared.note("stopped")


@get("/started", media_type="text/plain")
async def has_started(request: Request[Any, Any, Any]) -> str:
    return str(request.app.state.started)


@get("/hello", media_type="text/plain", sync_to_thread=False)
def hello(name: FromQuery[str]) -> str:
    return f"hello {name}"


@head("/hello", sync_to_thread=False)
def hello_in_brief(name: FromQuery[str]) -> None:
    """A handler of GET does not take HEAD."""


@post("/json", status_code=200)
async def echo(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
    return data


@post("/upload", status_code=200, media_type="application/octet-stream", request_max_body_size=None)
async def upload(request: Request[Any, Any, Any]) -> bytes:
    return await request.body()


@get("/stream")
async def stream() -> Stream:
    return Stream(shared.async_pieces)


@get("/file", sync_to_thread=False)
def file() -> File:
    return File(shared.FILE)


@get("/events")
async def events(name: FromQuery[str]) -> ServerSentEvent:
    return ServerSentEvent(shared.async_events(name))


@get("/flood")
async def flood(name: FromQuery[str]) -> Stream:
    return Stream(shared.async_flood(name))


@get("/background", media_type="text/plain")
async def background(name: FromQuery[str]) -> Response[str]:
    async def later() -> None:
        shared.note(name)

    return Response("later", background=BackgroundTask(later))


@websocket("/ws")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            await socket.send({**message, "type": "websocket.send"})  # type: ignore[arg-type]
    finally:
        shared.note(str(socket.query_params["name"]))


def make() -> Any:
    handlers = [has_started, hello, hello_in_brief, echo, upload, stream, file, events, flood, background, talk]
    return Litestar(handlers, on_startup=[start], on_shutdown=[stop])
