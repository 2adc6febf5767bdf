"""The application, written for FastAPI: plain, and behind BaseHTTPMiddleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from tests.support.frameworks import shared
from tests.support.frameworks.with_starlette import passes


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    application.state.started = "started"
    yield
    shared.note("stopped")


def make() -> Any:
    application = FastAPI(lifespan=lifespan)

    @application.get("/started", response_class=PlainTextResponse)
    async def has_started() -> str:
        return str(application.state.started)

    @application.api_route("/hello", methods=["GET", "HEAD"], response_class=PlainTextResponse)
    def hello(name: str) -> str:
        # Not async: FastAPI calls it in a thread of its own.
        return f"hello {name}"

    @application.post("/json")
    async def echo(document: dict[str, Any]) -> dict[str, Any]:
        return document

    @application.post("/upload")
    async def upload(request: Request) -> Response:
        return Response(b"".join([part async for part in request.stream()]))

    @application.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(shared.async_pieces())

    @application.get("/file")
    async def file() -> FileResponse:
        return FileResponse(shared.FILE)

    @application.get("/events")
    async def events(name: str) -> StreamingResponse:
        return StreamingResponse(shared.async_events(name), media_type="text/event-stream")

    @application.get("/flood")
    async def flood(name: str) -> StreamingResponse:
        return StreamingResponse(shared.async_flood(name))

    @application.get("/background", response_class=PlainTextResponse)
    async def background(name: str, tasks: BackgroundTasks) -> str:
        tasks.add_task(shared.note, name)
        return "later"

    @application.websocket("/ws")
    async def talk(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        try:
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                await websocket.send({**message, "type": "websocket.send"})
        finally:
            shared.note(name)

    return application


def make_behind_middleware() -> Any:
    application = make()
    application.add_middleware(BaseHTTPMiddleware, dispatch=passes)
    return application
