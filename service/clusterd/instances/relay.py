"""Relay metrics and probes: a request goes to the metrics endpoint of the instance that its path names.

    GET /instances                    the targets for Prometheus (http_sd_configs)
    GET /instances/NAME/              the instance's page for browsers
    GET /instances/NAME/metrics       its metrics; also /healthz and /readyz

The master of each instance answers. The relay stores nothing, and an instance that hangs does not delay the others.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote, unquote

from clusterd.config.address import Address, TcpAddress
from clusterd.http_date import http_date
from clusterd.instances.known import Places, metrics_address, names
from clusterd.log import Logger
from clusterd.master.admin.exchanges import HEAD_BYTES, Exchanges, receive_head, send_and_end

ANSWER_SECONDS = 4.0
"""The time limit for the whole answer of an instance. It is shorter than that of an exchange (EXCHANGE_SECONDS), so
that the client receives an error."""

ANSWER_BYTES = 64 << 20
"""The largest answer of an instance: a thousand times the size of the metrics of a hundred workers."""

_TEXT = "text/plain; charset=utf-8"
_REQUEST = re.compile(rb"(GET|HEAD) (/[\x21-\x7e]*) HTTP/1\.[01](?=\r\n)")
_HOST = re.compile(rb"^host:[ \t]*([A-Za-z0-9.\-:\[\]]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_RELAYED = re.compile(r"/instances/([^/]+)(/|/metrics|/healthz|/readyz)")


class Relay:
    """Serves on non-blocking sockets that already listen. The caller closes them."""

    def __init__(self, listeners: Sequence[socket.socket], log: Logger, places: Places | None = None) -> None:
        self._places = places or Places()
        self._log = log
        self._exchanges = Exchanges("metrics of the instances", listeners, self._converse, log)

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._exchanges.start()

    async def close(self) -> None:
        """Stop accepting and close every open connection."""
        await self._exchanges.close()

    async def _converse(self, connection: socket.socket) -> None:
        head = await receive_head(connection)
        if head is None:
            return
        try:
            response = await self._respond(connection, head)
        except Exception as error:  # A request that fails must not end the relay.
            self._log.exception("a request for metrics of the instances failed", error)
            response = _response(HTTPStatus.INTERNAL_SERVER_ERROR)
        if head.startswith(b"HEAD "):
            response = b"".join(response.partition(b"\r\n\r\n")[:2])
        await send_and_end(connection, response)

    async def _respond(self, connection: socket.socket, head: bytes) -> bytes:
        if b"\r\n\r\n" not in head[: HEAD_BYTES + 4]:
            return _response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        request = _REQUEST.match(head)
        if request is None:
            return _response(HTTPStatus.BAD_REQUEST, "only GET and HEAD requests for a path are answered\n")
        path, question, query = request[2].decode().partition("?")
        if path in ("/", "/instances"):
            listed = self._targets(_asked_at(connection, head))
            return _response(HTTPStatus.OK, listed, "application/json")
        relayed = _RELAYED.fullmatch(path)
        name = unquote(relayed[1]) if relayed else ""
        address = metrics_address(self._places, name) if relayed else None
        if relayed is None or address is None:
            return _response(HTTPStatus.NOT_FOUND, "the instances with metrics are listed at /instances\n")
        target = f"{relayed[2]}{question}{query}".encode()
        forwarded = b"%s %s%s" % (request[1], target, head[request.end(2) :])
        return await self._answer_of(name, address, forwarded)

    def _targets(self, asked_at: str) -> str:
        """The JSON for http_sd_configs: each instance is a target at the address of this relay, with its own path."""
        targets = [
            {
                "targets": [asked_at],
                "labels": {"__metrics_path__": f"/instances/{quote(name)}/metrics", "clusterd_instance": name},
            }
            for name in names(self._places)
        ]
        return json.dumps(targets, indent=1) + "\n"

    async def _answer_of(self, name: str, address: Address, request: bytes) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await _exchange(address, request)
        except TimeoutError:
            why, status = f"no answer within {ANSWER_SECONDS:g} s", HTTPStatus.GATEWAY_TIMEOUT
        except OSError as error:
            why, status = error.strerror or str(error), HTTPStatus.BAD_GATEWAY
        text = f"instance {name}: {address}: {why}; systemctl status clusterd@{name}\n"
        return _response(status, text)


async def _exchange(address: Address, request: bytes) -> bytes:
    """Send a request and return the whole answer. The endpoint closes the connection after it. Raises OSError."""
    loop = asyncio.get_running_loop()
    family, where = _place(address)
    with socket.socket(family, socket.SOCK_STREAM) as upstream:
        upstream.setblocking(False)
        await loop.sock_connect(upstream, where)
        await loop.sock_sendall(upstream, request)
        answer = bytearray()
        while data := await loop.sock_recv(upstream, 1 << 16):
            answer += data
            if len(answer) > ANSWER_BYTES:
                raise OSError(f"an answer of more than {ANSWER_BYTES >> 20} MiB")
    if not answer:
        raise OSError("the connection was closed without an answer")
    return bytes(answer)


def _place(address: Address) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """The address in the form of the socket module. The event loop resolves a host name."""
    if isinstance(address, TcpAddress):
        return socket.AF_INET6 if ":" in address.host else socket.AF_INET, (address.host, address.port)
    return socket.AF_UNIX, str(address).removeprefix("unix:")


def _asked_at(connection: socket.socket, head: bytes) -> str:
    """The address at which the client reaches this relay: the Host header, or else the address of the socket."""
    host = _HOST.search(head)
    if host is not None:
        return host[1].decode()
    address = connection.getsockname()
    return f"[{address[0]}]:{address[1]}" if connection.family == socket.AF_INET6 else f"{address[0]}:{address[1]}"


def _response(status: HTTPStatus, text: str | None = None, kind: str = _TEXT) -> bytes:
    body = (text if text is not None else f"{status.value} {status.phrase}\n").encode()
    headers = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: {http_date(time.time())}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return headers.encode() + body
