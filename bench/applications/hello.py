"""What is served in the comparison, with nothing around it: WSGI and ASGI."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

BODY = b"Hello, World!"
MEGABYTE = Path(os.environ["BENCH_FILE"])
CHUNK, CHUNKS = bytes(1024), 64
BURNING_SECONDS = {"/work": 0.001, "/burn": 0.2}
"""What the thread needs of a processor for a path."""


def burn(seconds: float) -> None:
    """Need a processor for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Answer by path."""
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]
    if path == "/sleep":
        time.sleep(0.005)
    if path in BURNING_SECONDS:
        burn(BURNING_SECONDS[path])
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (CHUNK for _ in range(CHUNKS))
    if path == "/file":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(1 << 20))])
        file = MEGABYTE.open("rb")
        wrapper = environ.get("wsgi.file_wrapper")  # PEP 3333: may be missing
        return wrapper(file, 1 << 16) if wrapper else iter(lambda: file.read(1 << 16), b"")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [BODY]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer by path."""
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    body, path = BODY, scope["path"]
    if path == "/echo":
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
    elif path == "/sleep":
        await asyncio.sleep(0.005)
    elif path in BURNING_SECONDS:
        burn(BURNING_SECONDS[path])
    elif path == "/file":
        await _send_megabyte(scope, send)
        return
    elif path == "/stream":
        await _send_chunks(send)
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Any, send: Any) -> None:
    """Accept a WebSocket, and send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def _send_chunks(send: Any) -> None:
    """A response whose length is not known at its beginning."""
    headers = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_megabyte(scope: dict[str, Any], send: Any) -> None:
    """By its path where the server takes that, else in pieces, as Starlette's FileResponse does."""
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(1 << 20).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": str(MEGABYTE)})
        return
    in_thread = asyncio.get_running_loop().run_in_executor
    with await in_thread(None, MEGABYTE.open, "rb") as file:
        more = True
        while more:
            piece = await in_thread(None, file.read, 1 << 16)
            more = len(piece) == 1 << 16
            await send({"type": "http.response.body", "body": piece, "more_body": more})
