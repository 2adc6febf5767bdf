"""The application, written for Channels: its own consumers for WebSockets and events, Django for the rest."""

import asyncio
from typing import Any
from urllib.parse import parse_qs

from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

from tests.support.frameworks import shared
from tests.support.frameworks.with_django import configure


def name_of(scope: dict[str, Any]) -> str:
    return parse_qs(scope["query_string"].decode())["name"][0]


class Talk(AsyncWebsocketConsumer):
    """Sends back what it gets."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)

    async def disconnect(self, code: int) -> None:
        shared.note(name_of(self.scope))


class Events(AsyncHttpConsumer):
    """One event, and then nothing: in a task, since a consumer hears of its client between two messages only."""

    async def handle(self, body: bytes) -> None:
        await self.send_headers(headers=[(b"Content-Type", b"text/event-stream")])
        await self.send_body(shared.EVENT, more_body=True)
        self.waits = asyncio.create_task(self.wait())

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            shared.note(name_of(self.scope))

    async def http_request(self, message: dict[str, Any]) -> None:
        # The consumer would end as soon as `handle` has returned.
        await self.handle(message.get("body", b""))

    async def disconnect(self) -> None:
        self.waits.cancel()


def make() -> Any:
    configure()
    http = [path("events", Events.as_asgi()), re_path("", get_asgi_application())]
    return ProtocolTypeRouter({"http": URLRouter(http), "websocket": URLRouter([path("ws", Talk.as_asgi())])})
