"""The application, written for BlackSheep."""

from collections.abc import AsyncIterator
from typing import Any

from blacksheep import Application, Content, Request, Response, StreamedContent, WebSocket, WebSocketDisconnectError
from blacksheep.server.responses import file as file_response
from blacksheep.server.responses import json as json_response
from blacksheep.server.responses import text
from blacksheep.server.sse import ServerSentEvent, ServerSentEventsResponse

from tests.support.frameworks import shared


def make() -> Any:
    application = Application()
    started: list[bool] = []
    route = application.router

    @application.on_start
    async def start(_: Any) -> None:
        started.append(True)

    @application.on_stop
    async def stop(_: Any) -> None:
        shared.note("stopped")

    @route.get("/started")
    async def has_started() -> Any:
        return text("started" if started else "not started")

    async def hello(request: Request) -> Any:
        return text(f"hello {request.query['name'][0]}")

    route.add_get("/hello", hello)
    route.add_head("/hello", hello)

    @route.post("/json")
    async def echo(request: Request) -> Any:
        return json_response(await request.json())

    @route.post("/upload")
    async def upload(request: Request) -> Any:
        return Response(200, content=Content(b"application/octet-stream", await request.read() or b""))

    @route.get("/stream")
    async def stream() -> Any:
        return Response(200, content=StreamedContent(b"text/plain", shared.async_pieces))

    @route.get("/file")
    async def file() -> Any:
        return file_response(str(shared.FILE), "text/plain")

    @route.get("/events")
    async def events(request: Request) -> Any:
        name = request.query["name"][0]

        async def sends() -> AsyncIterator[ServerSentEvent]:
            async for _ in shared.async_events(name):
                yield ServerSentEvent("first")

        return ServerSentEventsResponse(sends)

    @route.get("/flood")
    async def flood(request: Request) -> Any:
        name = request.query["name"][0]

        async def sends() -> AsyncIterator[bytes]:
            async for piece in shared.async_flood(name):
                yield piece

        return Response(200, content=StreamedContent(b"text/plain", sends))

    @route.ws("/ws")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                message = await websocket.receive()
                if message.get("bytes") is not None:
                    await websocket.send_bytes(message["bytes"])
                else:
                    await websocket.send_text(message["text"])
        except WebSocketDisconnectError:
            pass
        finally:
            shared.note(websocket.query["name"][0])

    return application
