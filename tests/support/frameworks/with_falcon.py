"""The application, written for Falcon, by both of its interfaces."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import falcon
import falcon.asgi

from tests.support.frameworks import shared


class Hello:
    def on_get(self, request: Any, response: Any) -> None:
        response.text = f"hello {request.params['name']}"

    on_head = on_get


class Json:
    def on_post(self, request: Any, response: Any) -> None:
        response.media = request.media


class Upload:
    def on_post(self, request: Any, response: Any) -> None:
        response.data = request.bounded_stream.read()


class Stream:
    def on_get(self, _: Any, response: Any) -> None:
        response.stream = shared.pieces()


class File:
    def on_get(self, _: Any, response: Any) -> None:
        response.set_stream(shared.FILE.open("rb"), shared.FILE.stat().st_size)


class Events:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "text/event-stream"
        response.stream = shared.events(request.params["name"])


class Flood:
    def on_get(self, request: Any, response: Any) -> None:
        response.stream = shared.flood(request.params["name"])


def make_wsgi() -> Any:
    application = falcon.App()
    resources = {"hello": Hello, "json": Json, "upload": Upload, "stream": Stream, "file": File}
    for path, resource in {**resources, "events": Events, "flood": Flood}.items():
        application.add_route(f"/{path}", resource())
    return application


class AsyncHello:
    async def on_get(self, request: Any, response: Any) -> None:
        response.text = f"hello {request.params['name']}"

    on_head = on_get


class AsyncJson:
    async def on_post(self, request: Any, response: Any) -> None:
        response.media = await request.media


class AsyncUpload:
    async def on_post(self, request: Any, response: Any) -> None:
        response.data = await request.stream.read()


class AsyncStream:
    async def on_get(self, _: Any, response: Any) -> None:
        response.stream = shared.async_pieces()


class AsyncFile:
    async def on_get(self, _: Any, response: Any) -> None:
        async def parts() -> AsyncIterator[bytes]:
            with shared.FILE.open("rb") as file:
                while part := await asyncio.to_thread(file.read, 10_000):
                    yield part

        response.set_stream(parts(), shared.FILE.stat().st_size)


class AsyncEvents:
    async def on_get(self, request: Any, response: Any) -> None:
        async def sends() -> AsyncIterator[Any]:
            async for _ in shared.async_events(request.params["name"]):
                yield falcon.asgi.SSEvent(text="first")

        response.sse = sends()


class AsyncFlood:
    async def on_get(self, request: Any, response: Any) -> None:
        response.stream = shared.async_flood(request.params["name"])


class Background:
    async def on_get(self, request: Any, response: Any) -> None:
        async def later() -> None:
            shared.note(request.params["name"])

        response.text = "later"
        response.schedule(later)


class Talk:
    async def on_websocket(self, request: Any, websocket: Any) -> None:
        await websocket.accept()
        try:
            while True:
                if request.params["kind"] == "text":
                    await websocket.send_text(await websocket.receive_text())
                else:
                    await websocket.send_data(await websocket.receive_data())
        except falcon.WebSocketDisconnected:
            pass
        finally:
            shared.note(request.params["name"])


class Lifespan:
    """Middleware, as Falcon has it, and the resource that tells of it."""

    def __init__(self) -> None:
        self.has_started = False

    async def process_startup(self, scope: Any, event: Any) -> None:
        self.has_started = True

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        shared.note("stopped")

    async def on_get(self, _: Any, response: Any) -> None:
        response.text = "started" if self.has_started else "not started"


def make_asgi() -> Any:
    lifespan = Lifespan()
    application = falcon.asgi.App(middleware=[lifespan])
    application.add_route("/started", lifespan)
    resources = {"hello": AsyncHello, "json": AsyncJson, "upload": AsyncUpload, "stream": AsyncStream}
    more = {"file": AsyncFile, "events": AsyncEvents, "flood": AsyncFlood, "background": Background, "ws": Talk}
    for path, resource in {**resources, **more}.items():
        application.add_route(f"/{path}", resource())
    return application
