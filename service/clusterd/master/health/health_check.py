"""The health check: request a page from a new worker before it serves clients.

The worker receives one end of a socketpair as if it had accepted a connection, and the master speaks HTTP on the other
end. This needs no port, and no other worker can answer in its place.
"""

import asyncio
import socket

from clusterd.config.model import HealthCheck

_STATUS_LINE_BYTES = 4096


async def check_health(check: HealthCheck, connection: socket.socket) -> str | None:
    """Check the worker at the other end of `connection`. Returns None if it answers as expected, else what is wrong."""
    try:
        async with asyncio.timeout(check.timeout):
            status = await _ask(check, connection)
    except TimeoutError:
        return f"health check {check.path}: no answer within {check.timeout:g} s"
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return f"health check {check.path}: {error}"
    if not check.accepts(status):
        return f"health check {check.path}: answered {status}, expected {check.expect}"
    return None


async def _ask(check: HealthCheck, connection: socket.socket) -> int:
    reader, writer = await asyncio.open_connection(sock=connection, limit=_STATUS_LINE_BYTES)
    try:
        headers = f"Host: {check.host}\r\nUser-Agent: clusterd-health\r\nConnection: close\r\n"
        writer.write(f"GET {check.path} HTTP/1.1\r\n{headers}\r\n".encode())
        await writer.drain()
        # RFC 9112 section 4: HTTP-version SP status-code SP [ reason-phrase ]
        line = await reader.readuntil(b"\r\n")
        return int(line.split(b" ", 2)[1])
    finally:
        writer.close()
