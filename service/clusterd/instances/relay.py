"""Relays metrics and probes of the instances: requests by path to the endpoint of the instance that the path names.

    GET /instances                    what Prometheus scrapes, for its http_sd_configs
    GET /instances/NAME/metrics       the instance's own page; also healthz and readyz

The master of each instance answers itself; nothing is kept here, and one that hangs delays no other.
"""

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import quote, unquote

from clusterd.config.address import Address, TcpAddress
from clusterd.instances.known import Places, metrics_address, names
from clusterd.log import Logger
from clusterd.master.admin.exchanges import HEAD_BYTES, Exchanges, receive_head, send_and_end

ANSWER_SECONDS = 4.0
"""For the whole answer of an instance: less than an exchange may take, so that the client hears of it."""

ANSWER_BYTES = 64 << 20
"""Of one instance: a thousand times what the metrics of a hundred workers take."""

_TEXT = "text/plain; charset=utf-8"
_REQUEST = re.compile(rb"(GET|HEAD) (/[\x21-\x7e]*) HTTP/1\.[01](?=\r\n)")
_HOST = re.compile(rb"^host:[ \t]*([A-Za-z0-9.\-:\[\]]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_RELAYED = re.compile(r"/instances/([^/]+)(/metrics|/healthz|/readyz)")


class Relay:
    """Serves on sockets that listen already and are non-blocking; they stay the caller's."""

    def __init__(self, listeners: Sequence[socket.socket], log: Logger, places: Places | None = None) -> None:
        self._places = places or Places()
        self._log = log
        self._exchanges = Exchanges("metrics of the instances", listeners, self._converse, log)

    def start(self) -> None:
        """Begin to accept, on the running loop."""
        self._exchanges.start()

    async def close(self) -> None:
        """Stop accepting and drop what is under way."""
        await self._exchanges.close()

    async def _converse(self, connection: socket.socket) -> None:
        head = await receive_head(connection)
        if head is None:
            return
        try:
            response = await self._respond(connection, head)
        except Exception as error:  # One request that cannot be answered must not end the relay.
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
        path = request[2].partition(b"?")[0].decode()
        if path in ("/", "/instances"):
            listed = self._targets(_asked_at(connection, head))
            return _response(HTTPStatus.OK, listed, "application/json")
        relayed = _RELAYED.fullmatch(path)
        name = unquote(relayed[1]) if relayed else ""
        address = metrics_address(self._places, name) if relayed else None
        if relayed is None or address is None:
            return _response(HTTPStatus.NOT_FOUND, "the instances with metrics are listed at /instances\n")
        forwarded = b"%s %s%s" % (request[1], relayed[2].encode(), head[request.end(2) :])
        return await self._answer_of(name, address, forwarded)

    def _targets(self, asked_at: str) -> str:
        """For http_sd_configs: each instance is a target at this same address, with a path of its own."""
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
    """The whole answer to a request: the endpoint closes the connection behind it. Raises OSError."""
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
    """The address as the socket module wants it; a name is looked up by the loop."""
    if isinstance(address, TcpAddress):
        return socket.AF_INET6 if ":" in address.host else socket.AF_INET, (address.host, address.port)
    return socket.AF_UNIX, str(address).removeprefix("unix:")


def _asked_at(connection: socket.socket, head: bytes) -> str:
    """The address under which the client knows this relay: what it says, else what it is connected to."""
    host = _HOST.search(head)
    if host is not None:
        return host[1].decode()
    address = connection.getsockname()
    return f"[{address[0]}]:{address[1]}" if connection.family == socket.AF_INET6 else f"{address[0]}:{address[1]}"


def _response(status: HTTPStatus, text: str | None = None, kind: str = _TEXT) -> bytes:
    body = (text if text is not None else f"{status.value} {status.phrase}\n").encode()
    headers = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return headers.encode() + body
