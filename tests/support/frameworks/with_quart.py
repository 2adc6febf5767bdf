"""The application, written for Quart."""

from typing import Any

import quart

from tests.support.frameworks import shared


def make() -> Any:
    application = quart.Quart(__name__)
    started: list[bool] = []

    @application.before_serving
    async def start() -> None:
        started.append(True)

    @application.after_serving
    async def stop() -> None:
        shared.note("stopped")

    @application.get("/started")
    async def has_started() -> Any:
        return "started" if started else "not started"

    @application.get("/hello")
    async def hello() -> Any:
        return f"hello {quart.request.args['name']}"

    @application.post("/json")
    async def echo() -> Any:
        return quart.jsonify(await quart.request.get_json())

    @application.post("/form")
    async def form() -> Any:
        return (await quart.request.form)["a"]

    @application.post("/upload")
    async def upload() -> Any:
        return await quart.request.get_data(), 200, {"Content-Type": "application/octet-stream"}

    @application.get("/stream")
    async def stream() -> Any:
        return shared.async_pieces(), 200

    @application.get("/file")
    async def file() -> Any:
        return await quart.send_file(shared.FILE)

    @application.get("/events")
    async def events() -> Any:
        response = await quart.make_response(shared.async_events(quart.request.args["name"]))
        response.timeout = None  # type: ignore[union-attr]
        response.mimetype = "text/event-stream"
        return response

    @application.get("/flood")
    async def flood() -> Any:
        response = await quart.make_response(shared.async_flood(quart.request.args["name"]))
        response.timeout = None  # type: ignore[union-attr]
        return response

    @application.get("/background")
    async def background() -> Any:
        async def later(name: str) -> None:
            shared.note(name)

        application.add_background_task(later, quart.request.args["name"])
        return "later"

    @application.websocket("/ws")
    async def talk() -> None:
        name = quart.websocket.args["name"]
        try:
            while True:
                await quart.websocket.send(await quart.websocket.receive())
        finally:
            shared.note(name)

    return application
