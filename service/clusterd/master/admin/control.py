"""The control socket: connections, lines and their limits. It never waits for a peer; `Commands` does the work."""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from clusterd.log import Logger
from clusterd.master.admin.accepting import Accepting
from clusterd.records import dataclass
from clusterd.wire.control import LINE_BYTES, ControlError, Request, parse_request, progress, result

MOST_SILENT = 32
REQUEST_SECONDS = 5.0
MOST_UNREAD_BYTES = 256 * 1024
"""A peer that does not read is disconnected once more bytes than this wait for it, beside the events of `recall`."""

_PEER_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process at the other end, as the kernel reports it (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


class Peer:
    """A client that has sent a request and receives the answer. Once it has gone, sending to it does nothing."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._recalled_bytes = 0
        self.credentials = _credentials(writer)

    @property
    def is_gone(self) -> bool:
        """Whether the connection is closed."""
        return self._writer.transport.is_closing()

    def leave_if_hung_up(self) -> None:
        """Close the connection if the client has closed it. A client that has only ended its sending stays."""
        if self.is_gone:
            return
        look = select.poll()
        look.register(self._writer.get_extra_info("socket"), 0)
        if look.poll(0):  # POLLHUP: both directions are shut down
            self._writer.transport.abort()

    def progress(self, text: str) -> None:
        """Send how far the request has got."""
        self._say(progress(text))

    def event(self, line: bytes) -> None:
        """Send an event. The line is encoded once for all peers."""
        self._say(line)

    def recall(self, lines: Sequence[bytes]) -> None:
        """Send the events that are remembered. Those of many deaths, with the requests that they cost, take 2 MiB."""
        self._recalled_bytes = sum(map(len, lines))
        self._say(b"".join(lines))

    def succeed(self, text: str, data: dict[str, Any] | None = None) -> None:
        """Send the success of the request and close the connection."""
        self._end(result(succeeded=True, text=text, data=data))

    def fail(self, text: str, data: dict[str, Any] | None = None) -> None:
        """Send the failure of the request, with its reason, and close the connection."""
        self._end(result(succeeded=False, text=text, data=data))

    def _end(self, line: bytes) -> None:
        self._say(line)
        self._writer.close()

    def _say(self, line: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES + self._recalled_bytes:
            self._writer.transport.abort()
        elif not self.is_gone:
            self._writer.write(line)


class ControlServer:
    """Serves the control sockets. `carry_out` receives each request, and answers it now or later."""

    def __init__(
        self, sockets: Sequence[socket.socket], carry_out: Callable[[Request, Peer], None], log: Logger
    ) -> None:
        self._accepting = Accepting("control socket", sockets, self._accepted, log)
        self._sockets = tuple(sockets)
        self.is_serving = False
        self._carry_out = carry_out
        self._silent: dict[asyncio.Task[None], None] = {}
        """Connections without a request so far, the oldest first."""

    @property
    def is_idle(self) -> bool:
        """Whether no client that has connected has still to say what it wants."""
        return not self._silent

    def start(self) -> None:
        """Serve, on the running loop."""
        self._accepting.start()
        self.is_serving = True

    def serve_on(self, sock: socket.socket) -> None:
        """Serve on this socket in place of the only one before, whose descriptor it takes over. `sock` is closed.

        The next program of the master, which gets the listening sockets, need not know of it. Raises
        OSError.
        """
        (served,) = self._sockets
        self._accepting.stop()
        try:
            os.dup2(sock.fileno(), served.fileno(), inheritable=False)
        finally:
            sock.close()
            self._accepting.start()

    def stop(self) -> None:
        """Accept no more requests."""
        self.is_serving = False
        self._accepting.stop()
        for task in self._silent:
            task.cancel()

    def _accepted(self, connection: socket.socket) -> None:
        if len(self._silent) >= MOST_SILENT:
            # Drop the oldest connection: a client sends its request at once.
            next(iter(self._silent)).cancel()
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._silent[task] = None
        task.add_done_callback(lambda done: self._silent.pop(done, None))

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_BYTES)
        peer = Peer(writer)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = parse_request(await reader.readuntil())
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        except TimeoutError:
            peer.fail(f"no request within {REQUEST_SECONDS:g} s")
        except asyncio.LimitOverrunError:
            peer.fail(f"a request is a line of at most {LINE_BYTES} bytes")
        except asyncio.IncompleteReadError:
            peer.fail("a request is one line; this one does not end with a newline")
        except (ControlError, OSError) as error:
            peer.fail(str(error))
        else:
            self._carry_out(request, peer)


def _credentials(writer: asyncio.StreamWriter) -> Credentials:
    sock: socket.socket = writer.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return Credentials(*_PEER_CREDENTIALS.unpack(raw))
