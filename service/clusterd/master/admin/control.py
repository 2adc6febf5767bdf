"""The control socket: connections, lines and their limits. No peer is ever waited for; what is asked, others do."""

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusterd.log import Logger
from clusterd.master.admin.accepting import Accepting
from clusterd.wire.control import LINE_BYTES, ControlError, Request, parse_request, progress, result

MOST_SILENT = 32
REQUEST_SECONDS = 5.0
MOST_UNREAD_BYTES = 256 * 1024
"""Beyond it a peer that does not read is dropped. Above the largest single answer there is."""

_PEER_CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks, by the kernel's word (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


class Peer:
    """One that has asked for something, and is told how it goes. Telling one that has gone does nothing."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.credentials = _credentials(writer)

    @property
    def is_gone(self) -> bool:
        """Whether nobody is there to be told anything."""
        return self._writer.transport.is_closing()

    def leave_if_hung_up(self) -> None:
        """Close the connection of one that has gone, and not only said all that it had to say."""
        if self.is_gone:
            return
        look = select.poll()
        look.register(self._writer.get_extra_info("socket"), 0)
        if look.poll(0):  # POLLHUP: both directions are shut down
            self._writer.transport.abort()

    def progress(self, text: str) -> None:
        """How far the request is."""
        self._say(progress(text))

    def event(self, line: bytes) -> None:
        """Something has happened: a line that is made once for all who are told."""
        self._say(line)

    def succeed(self, text: str, data: dict[str, Any] | None = None) -> None:
        """The last word: it is done."""
        self._end(result(succeeded=True, text=text, data=data))

    def fail(self, text: str, data: dict[str, Any] | None = None) -> None:
        """The last word: it is not done, for this reason."""
        self._end(result(succeeded=False, text=text, data=data))

    def _end(self, line: bytes) -> None:
        self._say(line)
        self._writer.close()

    def _say(self, line: bytes) -> None:
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            self._writer.transport.abort()
        elif not self.is_gone:
            self._writer.write(line)


class ControlServer:
    """Serves the control sockets. `carry_out` takes each request, and answers now or later."""

    def __init__(
        self, sockets: Sequence[socket.socket], carry_out: Callable[[Request, Peer], None], log: Logger
    ) -> None:
        self._accepting = Accepting("control socket", sockets, self._accepted, log)
        self._carry_out = carry_out
        self._silent: dict[asyncio.Task[None], None] = {}
        """Peers that have not asked for anything yet, in the order they came."""

    def start(self) -> None:
        """Serve, on the running loop."""
        self._accepting.start()

    def stop(self) -> None:
        """Take no more requests."""
        self._accepting.stop()
        for task in self._silent:
            task.cancel()

    def _accepted(self, connection: socket.socket) -> None:
        if len(self._silent) >= MOST_SILENT:
            # Whoever has something to ask asks at once.
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
            peer.fail("a request is a line, and ends with one")
        except (ControlError, OSError) as error:
            peer.fail(str(error))
        else:
            self._carry_out(request, peer)


def _credentials(writer: asyncio.StreamWriter) -> Credentials:
    sock: socket.socket = writer.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return Credentials(*_PEER_CREDENTIALS.unpack(raw))
