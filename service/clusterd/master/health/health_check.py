"""The health check: request a page from a new worker before it serves clients.

The worker receives one end of a socketpair as if it had accepted a connection, and the master speaks HTTP on the other
end. This needs no port, and no other worker can answer in its place.
"""

import asyncio
import re
import socket
from http import HTTPStatus

from clusterd.config.model import HealthCheck
from clusterd.master.children.child import Child
from clusterd.master.children.table import Children
from clusterd.records import dataclass
from clusterd.wire import messages

_LINE_BYTES = 64 * 1024
_SEEN_BYTES = 16 * 1024
"""How much of a response is read to say what is wrong."""
_SHOWN_CHARACTERS = 200
_TAG = re.compile("<[^<>]*>")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})[ \r]")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    details: str = ""
    """What helps to see why the status is another one than expected."""


async def check_worker(children: Children, worker: Child, check: HealthCheck) -> str | None:
    """Check a worker that is ready. Returns None if it answers as expected, else what is wrong."""
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        return f"health check {check.path}: {error}"
    ours.setblocking(False)
    with theirs:
        children.send(worker, messages.HealthConnection(), theirs.fileno())
    return await _check(check, ours)


async def _check(check: HealthCheck, connection: socket.socket) -> str | None:
    try:
        async with asyncio.timeout(check.timeout):
            answer = await _ask(check, connection)
    except TimeoutError:
        return f"health check {check.path}: no answer within {check.timeout:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return f"health check {check.path}: {error}"
    if not check.accepts(answer.status):
        return f"health check {check.path}: answered {answer.status}, expected {check.expect}{answer.details}"
    return None


async def _ask(check: HealthCheck, connection: socket.socket) -> _Answer:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_LINE_BYTES)
    try:
        fields = (f"Host: {check.host}", "User-Agent: clusterd-health", "Connection: close", *check.headers)
        writer.write("\r\n".join([f"GET {check.path} HTTP/1.1", *fields, "", ""]).encode())
        await writer.drain()
        status = await _final_status(reader)
        return _Answer(status) if check.accepts(status) else await _described(status, reader)
    finally:
        writer.close()


async def _final_status(reader: asyncio.StreamReader) -> int:
    """Read the status line of the response, and whole responses that precede it, such as early hints (103)."""
    # RFC 9112 section 4: HTTP-version SP status-code SP [ reason-phrase ]
    while (status := _status_of(await reader.readuntil(b"\r\n"))) < HTTPStatus.OK:
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    return status


def _status_of(line: bytes) -> int:
    found = _STATUS_LINE.match(line)
    if found is None:
        raise ValueError(f"{line[:_SHOWN_CHARACTERS].decode(errors='replace')!r} is no status line of HTTP/1.1")
    return int(found[1])


async def _described(status: int, reader: asyncio.StreamReader) -> _Answer:
    """Read where a redirection leads to, and the first line of the body that says something."""
    rest = b""
    while len(rest) < _SEEN_BYTES and (piece := await reader.read(_LINE_BYTES)):
        rest += piece
    head, _, body = rest.partition(b"\r\n\r\n")
    fields = head.decode(errors="replace").split("\r\n")
    if any(field.lower() == "transfer-encoding: chunked" for field in fields):
        body = _unchunked(body)
    locations = (field for field in fields if field.lower().startswith("location:"))
    lines = (line.strip() for line in body.decode(errors="replace").splitlines())
    found = (next(locations, ""), next(filter(_says_something, lines), ""))
    return _Answer(status, "".join(f"; {each[:_SHOWN_CHARACTERS]}" for each in found if each))


def _says_something(line: str) -> bool:
    """Whether there is text beside the tags, as there is not in the first lines of a page in HTML."""
    return bool(_TAG.sub("", line).strip())


def _unchunked(body: bytes) -> bytes:
    """The data of a body that the worker has sent in chunks (RFC 9112 section 7.1), as far as it has been read."""
    data = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16) if _CHUNK_SIZE.fullmatch(line) else 0
        if not size:
            return data
        data += body[:size]
        body = body[size + len(b"\r\n") :]
