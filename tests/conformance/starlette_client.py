"""A pytest plugin for Starlette's own tests: their client asks an engine over a socket, and calls no application.

Each request and each WebSocket has an engine of its own. What the client does beside, such as the lifespan, stays.
"""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from starlette import testclient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from clusterd.http.settings import Interface
from tests.support.serving import PATIENCE, serving


class Raising:
    """The application, whose errors the client is to raise."""

    def __init__(self, application: Any, state: dict[str, Any]) -> None:
        self._application = application
        self._state = state
        self.errors: list[BaseException] = []
        self.ended = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            await self._application(scope | {"state": self._state.copy()}, receive, send)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.ended.set()


@contextmanager
def connected(application: Raising, root_path: str) -> Iterator[socket.socket]:
    """A connection to an engine that serves the application."""
    proxy: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "server_header": False}
    with (
        serving(application, interface=Interface.ASGI, root_path=root_path, **proxy) as server,
        socket.create_connection(server.address, PATIENCE) as sock,
    ):
        yield sock


class Transport(testclient._TestClientTransport):  # noqa: SLF001 - the client takes no other
    """Sends a request as it is, and reads the whole response."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        application = Raising(self.app, self.app_state)
        if request.url.scheme in ("ws", "wss"):
            raise testclient._Upgrade(Session(application, request, self.root_path))  # noqa: SLF001
        with connected(application, self.root_path) as sock:
            response = exchanged(sock, request)
            application.ended.wait(PATIENCE)
        if self.raise_server_exceptions and application.errors:
            raise application.errors[0]
        return response


def exchanged(sock: socket.socket, request: httpx.Request) -> httpx.Response:
    """What comes back for a request."""
    connection = http.client.HTTPConnection("testserver", timeout=PATIENCE)
    connection.sock = sock
    connection.putrequest(
        request.method, request.url.raw_path.decode("ascii"), skip_host=True, skip_accept_encoding=True
    )
    for name, value in request.headers.raw:
        connection.putheader(name, value)
    if request.url.scheme == "https":
        connection.putheader("X-Forwarded-Proto", "https")
    body = request.read()
    is_chunked = "transfer-encoding" in request.headers
    connection.endheaders((b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" if is_chunked else body)
    response = connection.getresponse()
    headers = [(name, value) for name, value in response.getheaders() if name.lower() not in ADDED]
    return httpx.Response(
        response.status,
        headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        stream=httpx.ByteStream(response.read()),
        request=request,
    )


ADDED = ("date", "transfer-encoding", "connection")
"""Fields of the server's own: the tests compare headers with what the application has sent."""


class Session(testclient.WebSocketTestSession):
    """A WebSocket over a socket."""

    def __init__(self, application: Raising, request: httpx.Request, root_path: str) -> None:
        self._application = application
        self._request = request
        self._root_path = root_path
        self._stack = ExitStack()
        self.accepted_subprotocol = None
        self.extra_headers = None

    def __enter__(self) -> "Session":
        sock = self._stack.enter_context(connected(self._application, self._root_path))
        offered = self._request.headers.get("sec-websocket-protocol")
        own = ("host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")
        headers = [(name, value) for name, value in self._request.headers.multi_items() if name not in own]
        try:
            self._socket = connect(
                str(self._request.url.copy_with(scheme="ws")),
                sock=sock,
                subprotocols=[each.strip() for each in offered.split(",")] if offered else None,
                additional_headers=[*headers, ("X-Forwarded-Proto", self._request.url.scheme)],
                compression=None,
                user_agent_header=None,
                legacy=True,
            )
        except InvalidStatus as error:
            self._leave()
            raise self._denied(error) from error
        except BaseException:
            self._leave()
            raise
        self.accepted_subprotocol = self._socket.subprotocol  # type: ignore[assignment]
        response = self._socket.response
        assert response is not None
        known = ("upgrade", "connection", "sec-websocket-accept", "date", "server", "sec-websocket-protocol")
        self.extra_headers = [  # type: ignore[assignment]
            (name.lower().encode(), value.encode())
            for name, value in response.headers.raw_items()
            if name.lower() not in known
        ]
        return self

    def _leave(self) -> None:
        self._stack.close()
        if self._application.errors:
            raise self._application.errors[0]

    @staticmethod
    def _denied(error: InvalidStatus) -> Exception:
        response = error.response
        if response.status_code == 403 and b"does not accept" in (response.body or b""):
            return WebSocketDisconnect(code=1000)
        headers = [(name, value) for name, value in response.headers.raw_items() if name.lower() not in ADDED]
        denial: Any = testclient.WebSocketDenialResponse  # A response, too, in this module.
        return denial(  # type: ignore[no-any-return]
            status_code=response.status_code, headers=headers, content=bytes(response.body or b"")
        )

    def __exit__(self, *_: Any) -> None:
        self._socket.close()
        self._leave()

    def send(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            self._socket.close(message["code"], message.get("reason") or "")
        else:
            self._socket.send(message["text"] if message.get("text") is not None else message["bytes"])

    def receive(self) -> Any:
        try:
            data = self._socket.recv(PATIENCE)
        except ConnectionClosed as error:
            close = error.rcvd
            return {
                "type": "websocket.close",
                "code": 1006 if close is None else close.code,
                "reason": "" if close is None else close.reason,
            }
        return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}


testclient._TestClientTransport = Transport  # type: ignore[misc]  # noqa: SLF001
