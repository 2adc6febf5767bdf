"""A Socket.IO server that sends back what it gets."""

from typing import Any

import socketio

from tests.support.frameworks import shared


def make() -> Any:
    server = socketio.AsyncServer(async_mode="asgi")
    names: dict[str, str] = {}

    @server.event
    async def connect(sid: str, environ: dict[str, Any], *_: Any) -> None:
        names[sid] = dict(each.partition("=")[::2] for each in environ["QUERY_STRING"].split("&")).get("name", "")

    @server.event
    async def disconnect(sid: str, *_: Any) -> None:
        shared.note(names.pop(sid))

    @server.event
    async def echo(_: str, data: Any) -> Any:
        return data

    @server.event
    async def background(_: str, name: str) -> str:
        async def later() -> None:
            shared.note(name)

        server.start_background_task(later)
        return "later"

    async def stop() -> None:
        shared.note("stopped")

    static = {"/file": str(shared.FILE)}
    return socketio.ASGIApp(server, static_files=static, on_startup=lambda: None, on_shutdown=stop)
