"""The master's own small HTTP server: metrics, probes and an overview, served by its event loop.

The workers' engine is not used, so that the master does not import it. The server accepts GET and HEAD, one request a
connection, with short limits, so a client cannot keep the master from its work.
"""

import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from urllib.parse import parse_qs

from clusterd.http_date import http_date
from clusterd.log import Logger
from clusterd.master.admin.exchanges import HEAD_BYTES, Exchanges, receive_head, send_and_end
from clusterd.master.health.readiness import Check
from clusterd.metrics.page.negotiation import Page, Wanted
from clusterd.records import dataclass

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[01]")
_FIELD = re.compile(rb"^(accept|accept-encoding):[ \t]*(.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of the endpoint. Each function is called on the loop, for each request."""

    metrics: Callable[[Wanted], Awaitable[Page]]
    """Returns the page in the format and compression that the request asks for."""
    not_ready: Callable[[], str | None]
    """Returns why the service cannot answer requests; None if it can."""
    checks: Callable[[], Sequence[Check]]
    """Returns the conditions for that, and what was found."""
    overview: Callable[[], tuple[bytes, str]]
    """Returns the page for browsers, as HTML, and its Content-Security-Policy."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: str = ""
    """Further header fields, each with its CRLF."""


class Endpoint:
    """Serves on non-blocking sockets that already listen. The caller closes them."""

    def __init__(self, pages: Pages, listeners: Sequence[socket.socket], log: Logger) -> None:
        self._pages = pages
        self._log = log
        self._exchanges = Exchanges("metrics endpoint", listeners, self._converse, log)

    @property
    def is_idle(self) -> bool:
        """Whether no client waits for a page."""
        return self._exchanges.is_idle

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._exchanges.start()

    async def close(self) -> None:
        """Stop accepting and close every open connection."""
        await self._exchanges.close()

    async def _converse(self, connection: socket.socket) -> None:
        head = await receive_head(connection)
        if head is not None:
            await send_and_end(connection, await self._respond(head))

    async def _respond(self, received: bytes) -> bytes:
        head, end, _ = received.partition(b"\r\n\r\n")
        request = _REQUEST_LINE.match(head)
        if not end or len(head) > HEAD_BYTES:
            answer = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif not request or head[request.end() : request.end() + 2] not in (b"", b"\r\n"):
            answer = _plain(HTTPStatus.BAD_REQUEST)
        elif request[1] not in (b"GET", b"HEAD"):
            answer = _plain(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET, HEAD\r\n")
        else:
            path, _, query = request[2].decode().partition("?")
            answer = await self._answer(path, query, _wanted(head))
        headers = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
            f"Date: {http_date(time.time())}\r\n"
            f"Content-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\n"
            f"{answer.headers}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        )
        return headers.encode("latin-1") + (b"" if request and request[1] == b"HEAD" else answer.body)

    async def _answer(self, path: str, query: str, wanted: Wanted) -> _Answer:
        try:
            return await self._page(path, query, wanted)
        except Exception as error:  # An error in a page must not end the master.
            self._log.exception("metrics endpoint failed", error, path=path)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _page(self, path: str, query: str, wanted: Wanted) -> _Answer:
        match path:
            case "/metrics":
                page = await self._pages.metrics(wanted)
                encoding = f"Content-Encoding: {page.content_encoding}\r\n" if page.content_encoding else ""
                return _Answer(HTTPStatus.OK, page.body, page.content_type, encoding)
            case "/healthz":
                # Any answer shows that the master's event loop is alive.
                return _Answer(HTTPStatus.OK, b"ok\n")
            case "/readyz":
                reason = self._pages.not_ready()
                status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
                checks = self._pages.checks() if "verbose" in parse_qs(query, keep_blank_values=True) else ()
                return _Answer(status, _probe(reason or "ready", checks))
            case "/":
                document, policy = self._pages.overview()
                headers = f"Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n"
                return _Answer(HTTPStatus.OK, document, "text/html; charset=utf-8", headers)
            case _:
                return _plain(HTTPStatus.NOT_FOUND)


def _wanted(head: bytes) -> Wanted:
    fields = [(name.lower(), value.decode("latin-1")) for name, value in _FIELD.findall(head.replace(b"\r\n", b"\n"))]
    accept, accept_encoding = (
        ", ".join(value for name, value in fields if name == wanted) for wanted in (b"accept", b"accept-encoding")
    )
    return Wanted.by(accept, accept_encoding)


def _probe(result: str, checks: Sequence[Check]) -> bytes:
    """Return a line for each check, as Kubernetes writes them, and the result as the last line."""
    marks = (f"[{'+' if check.passed else '-'}]{check.name}: {check.found}" for check in checks)
    return "".join(f"{line}\n" for line in (*marks, result)).encode()


def _plain(status: HTTPStatus, headers: str = "") -> _Answer:
    return _Answer(status, f"{status.value} {status.phrase}\n".encode(), headers=headers)
