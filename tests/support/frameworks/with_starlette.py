"""The application, written for Starlette: plain, behind BaseHTTPMiddleware, and with the events of sse-starlette."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.frameworks import shared


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"started": "started"}
    shared.note("stopped")


async def has_started(request: Request) -> Response:
    return PlainTextResponse(request.state.started)


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.query_params['name']}")


async def echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def upload(request: Request) -> Response:
    return Response(await request.body())


async def stream(request: Request) -> Response:
    return StreamingResponse(shared.async_pieces())


async def file(request: Request) -> Response:
    return FileResponse(shared.FILE)


async def events(request: Request) -> Response:
    return StreamingResponse(shared.async_events(request.query_params["name"]), media_type="text/event-stream")


async def sent_events(request: Request) -> Response:
    from sse_starlette.sse import EventSourceResponse

    return EventSourceResponse(shared.async_events(request.query_params["name"]))


async def flood(request: Request) -> Response:
    return StreamingResponse(shared.async_flood(request.query_params["name"]))


async def background(request: Request) -> Response:
    return PlainTextResponse("later", background=BackgroundTask(shared.note, request.query_params["name"]))


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await websocket.send({**message, "type": "websocket.send"})
    except WebSocketDisconnect:
        pass
    finally:
        shared.note(websocket.query_params["name"])


async def passes(given: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(given)


def make(*middleware: Middleware, sends_events: Any = events) -> Any:
    routes = [
        Route("/started", has_started),
        Route("/hello", hello),
        Route("/json", echo, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/file", file),
        Route("/events", sends_events),
        Route("/flood", flood),
        Route("/background", background),
        WebSocketRoute("/ws", talk),
    ]
    return Starlette(routes=routes, middleware=list(middleware), lifespan=lifespan)


def make_behind_middleware() -> Any:
    return make(Middleware(BaseHTTPMiddleware, passes))


def make_with_sse() -> Any:
    return make(sends_events=sent_events)
