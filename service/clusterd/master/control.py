"""The control socket: clusterctl's requests, answered without ever waiting for a peer."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

from clusterd.log import Logger
from clusterd.wire.control import (
    LINE_BYTES,
    Command,
    ControlError,
    parse_command,
    progress,
    result,
)

MOST_SILENT = 32
REQUEST_SECONDS = 5.0
_PEER_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Serves the control sockets. `next_rollout` is the number of the one that `reload` would ask for."""

    def __init__(
        self,
        next_rollout: Callable[[], int],
        reload: Callable[[], None],
        describe: Callable[[], dict[str, Any]],
        log: Logger,
    ) -> None:
        self._next_rollout = next_rollout
        self._reload = reload
        self._describe = describe
        self._log = log
        self._followers: dict[asyncio.StreamWriter, int] = {}
        self._listeners: list[socket.socket] = []
        self._silent: dict[asyncio.Task[None], None] = {}
        """Peers that have not asked for anything yet, in the order they came."""

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that listen, on the running loop. Not start_unix_server: it would call listen() again."""
        self._listeners = list(sockets)
        for sock in self._listeners:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def stop(self) -> None:
        """Take no more requests; who follows a rollout is told of its end first."""
        for sock in self._listeners:
            asyncio.get_running_loop().remove_reader(sock)
        for task in self._silent:
            task.cancel()

    def report_progress(self, text: str) -> None:
        """Tell everyone who follows a rollout how far the service is."""
        for writer in list(self._followers):
            self._say(writer, progress(text))

    def rollout_ended(self, number: int, *, succeeded: bool, text: str, data: dict[str, Any]) -> None:
        """Answer everyone who follows rollout `number`."""
        for writer in [writer for writer, followed in self._followers.items() if followed == number]:
            del self._followers[writer]
            self._say(writer, result(succeeded=succeeded, text=text, data=data))
            writer.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the peer has gone; or there are no descriptors, and it waits
        connection.setblocking(False)
        if len(self._silent) >= MOST_SILENT:
            # Whoever has something to ask asks at once.
            next(iter(self._silent)).cancel()
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._silent[task] = None
        task.add_done_callback(lambda done: self._silent.pop(done, None))

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_BYTES)
        try:
            await self._answer(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                command = parse_command(await reader.readline())
        except TimeoutError:
            self._refuse(writer, f"no request within {REQUEST_SECONDS:g} s")
            return
        except (ControlError, ValueError, OSError) as error:
            self._refuse(writer, str(error))
            return
        match command:
            case Command.STATUS:
                description = self._describe()
                self._say(writer, result(succeeded=True, text=description["status"], data=description))
                writer.close()
            case Command.RELOAD:
                self._log.info("reload asked for on the control socket", **_credentials(writer))
                # Followed before it is asked for: a bad configuration ends a rollout within one step.
                self._followers[writer] = self._next_rollout()
                self._reload()

    def _refuse(self, writer: asyncio.StreamWriter, why: str) -> None:
        self._say(writer, result(succeeded=False, text=why))
        writer.close()

    def _say(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        """Send, or drop a peer that has stopped reading."""
        if writer.transport.get_write_buffer_size() > LINE_BYTES:
            self._followers.pop(writer, None)
            writer.transport.abort()
        else:
            writer.write(line)


def _credentials(writer: asyncio.StreamWriter) -> dict[str, object]:
    sock: socket.socket = writer.get_extra_info("socket")
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return {"peer_pid": pid, "peer_uid": uid}
