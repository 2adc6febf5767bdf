"""The application, written for Sanic."""

from typing import Any

from sanic import Request, Sanic, Websocket, response

from tests.support.frameworks import shared


def make() -> Any:
    application = Sanic("conformance")
    application.config.REQUEST_MAX_SIZE = 10_000_000

    @application.before_server_start
    async def start(application: Any) -> None:
        application.ctx.started = "started"

    @application.after_server_stop
    async def stop(_: Any) -> None:
        shared.note("stopped")

    @application.get("/started")
    async def has_started(request: Request) -> Any:
        return response.text(request.app.ctx.started)

    @application.route("/hello", methods=["GET", "HEAD"])
    async def hello(request: Request) -> Any:
        return response.text(f"hello {request.args.get('name')}")

    @application.post("/json")
    async def echo(request: Request) -> Any:
        return response.json(request.json)

    @application.post("/upload")
    async def upload(request: Request) -> Any:
        return response.raw(request.body)

    async def sends(request: Request, pieces: Any, content_type: str = "text/plain") -> None:
        answer = await request.respond(content_type=content_type)
        try:
            async for piece in pieces:
                await answer.send(piece)
            await answer.eof()
        finally:
            await pieces.aclose()

    @application.get("/stream")
    async def stream(request: Request) -> None:
        await sends(request, shared.async_pieces())

    @application.get("/file")
    async def file(_: Request) -> Any:
        return await response.file(shared.FILE)

    @application.get("/events")
    async def events(request: Request) -> None:
        await sends(request, shared.async_events(request.args.get("name")), "text/event-stream")

    @application.get("/flood")
    async def flood(request: Request) -> None:
        await sends(request, shared.async_flood(request.args.get("name")))

    @application.get("/background")
    async def background(request: Request) -> Any:
        async def later(name: str) -> None:
            shared.note(name)

        application.add_task(later(request.args.get("name")))
        return response.text("later")

    @application.websocket("/ws")
    async def talk(request: Request, websocket: Websocket) -> None:
        try:
            while True:
                await websocket.send(await websocket.recv())
        finally:
            shared.note(request.args.get("name"))

    return application
