"""Notifies the service manager of the master's state (sd_notify(3)).

`systemd.daemon.notify` is not used, because it waits while the manager does not read. The master's loop never waits.
"""

import errno
import os
import socket
from array import array
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto

from clusterd.records import dataclass

_MICROSECONDS = 1_000_000
_STATUS_LENGTH = 300
_NO_ROOM_NOW = {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}
"""The manager has not read enough yet, or too many descriptors of this user are on their way (unix(7))."""


class _Replaces(Enum):
    """Of the messages that wait, the last one of each of these says all."""

    NOTHING = auto()
    STATUS = auto()
    TIMEOUT = auto()


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that waits, with duplicates of its descriptors."""

    text: bytes
    descriptors: tuple[int, ...] = ()
    replaces: _Replaces = _Replaces.NOTHING

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


class Notifier:
    """Sends each message as one datagram to `address`, the value of $NOTIFY_SOCKET. Sends nothing if that is not set.

    A message that cannot be sent now is kept, and sent before the next one. `flush` sends it earlier.
    """

    def __init__(self, address: str | None) -> None:
        self._waiting: deque[_Message] = deque()
        self._socket: socket.socket | None = None
        self._address = ""
        # Any other address is a VM's vsock, which a manager never gives to a service.
        if address and address[0] in "/@":
            # The socket is not connected, because the manager may close its socket and bind a new one (daemon-reexec).
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """Say that the service has started.

        RELOADING=1 is never sent: if the master dies after it, systemd 257 waits for READY=1 from the dead process.
        systemd learns of reloads from `ExecReload=`.
        """
        self._send("READY=1", _status(status))

    def stopping(self, status: str) -> None:
        """Say that the service begins to stop."""
        self._send("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(_status(status), replaces=_Replaces.STATUS)

    def watchdog(self) -> None:
        """Say that the loop is alive. A message that cannot be sent is dropped, because it could be false later."""
        if self._socket and self.flush():
            self._transmit(_Message(b"WATCHDOG=1"))

    def extend_timeout(self, seconds: float) -> None:
        """Extend the timeout of the start, reload or stop to this many seconds from now, unless called again."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}", replaces=_Replaces.TIMEOUT)

    def store(self, descriptor: int, name: str) -> None:
        """Have the manager keep a duplicate of the descriptor, for the next process of the service.

        FDPOLL=0: otherwise the manager would drop it when the other end is closed, with the messages that it still
        holds. The manager ignores a descriptor of an open file that it keeps already. sd_pid_notify_with_fds(3).
        """
        self._send("FDSTORE=1", "FDPOLL=0", f"FDNAME={name}", descriptors=(descriptor,))

    def remove(self, name: str) -> None:
        """Have the manager close every descriptor that it keeps under this name."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def barrier(self, descriptor: int) -> None:
        """Send the write end of a pipe. The manager closes it when it has handled all messages before this one.

        It is closed at once if there is no manager. sd_notify_barrier(3). The caller closes its own descriptor.
        """
        self._send("BARRIER=1", descriptors=(descriptor,))

    @property
    def is_waiting(self) -> bool:
        """Whether messages are kept because there was no room for them."""
        return bool(self._waiting)

    def flush(self) -> bool:
        """Send the messages that are kept. Return whether none is left."""
        while self._waiting:
            if not self._transmit(self._waiting[0]):
                return False
            self._waiting.popleft().close()
        return True

    def close(self) -> None:
        """Close the socket, and the descriptors of the messages that are kept."""
        while self._waiting:
            self._waiting.popleft().close()
        if self._socket:
            self._socket.close()

    def _send(
        self, *assignments: str, descriptors: tuple[int, ...] = (), replaces: _Replaces = _Replaces.NOTHING
    ) -> None:
        text = "\n".join(assignments).encode("utf-8", "replace")
        if not self._socket or (self.flush() and self._transmit(_Message(text, descriptors))):
            return
        if replaces is not _Replaces.NOTHING:
            self._waiting = deque(each for each in self._waiting if each.replaces is not replaces)
        self._waiting.append(_Message(text, _duplicates(descriptors), replaces))

    def _transmit(self, message: _Message) -> bool:
        """Return whether the message is done with: sent, or no manager will ever read it."""
        assert self._socket
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", message.descriptors))] if message.descriptors else []
        )
        try:
            # Not socket.send_fds, which ignores the address.
            self._socket.sendmsg([message.text], rights, 0, self._address)
        except OSError as error:
            # Otherwise the manager's socket is gone. A manager that listens there later does not need old messages.
            return error.errno not in _NO_ROOM_NOW
        return True


def _duplicates(descriptors: Sequence[int]) -> tuple[int, ...]:
    """Return duplicates that are closed on exec. Raises OSError if this process may not have so many descriptors."""
    made: list[int] = []
    try:
        for descriptor in descriptors:
            made.append(os.dup(descriptor))
    except OSError:
        for descriptor in made:
            os.close(descriptor)
        raise
    return tuple(made)


def _status(text: str) -> str:
    """Return the text on one line, because a second line would be another assignment."""
    return f"STATUS={' '.join(text.split())[:_STATUS_LENGTH]}"
