"""Notifies the service manager of the master's state (sd_notify(3)).

`systemd.daemon.notify` is not used, because it waits while the manager does not read. The master's loop never waits.
"""

import socket
from collections import deque

_MICROSECONDS = 1_000_000
_KEPT_MESSAGES = 64
_STATUS_LENGTH = 300


class Notifier:
    """Sends each message as one datagram to `address`, the value of $NOTIFY_SOCKET. Sends nothing if that is not set.

    A message that cannot be sent now is kept, and sent before the next one.
    """

    def __init__(self, address: str | None) -> None:
        self._waiting: deque[bytes] = deque(maxlen=_KEPT_MESSAGES)
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
        self._send(_status(status))

    def watchdog(self) -> None:
        """Say that the loop is alive. A message that cannot be sent is dropped, because it could be false later."""
        if not self._waiting or self.flush():
            self._send("WATCHDOG=1", keep=False)

    def extend_timeout(self, seconds: float) -> None:
        """Extend the timeout of the start, reload or stop to this many seconds from now, unless called again."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def flush(self) -> bool:
        """Send the messages that are kept. Return whether none is left."""
        while self._waiting:
            if not self._transmit(self._waiting[0]):
                return False
            self._waiting.popleft()
        return True

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()

    def _send(self, *assignments: str, keep: bool = True) -> None:
        message = "\n".join(assignments).encode("utf-8", "replace")
        if self._socket and not (self.flush() and self._transmit(message)) and keep:
            self._waiting.append(message)

    def _transmit(self, message: bytes) -> bool:
        assert self._socket
        try:
            self._socket.sendto(message, self._address)
        except BlockingIOError:
            return False
        except OSError:
            # The manager's socket is gone. A manager that listens there later does not need old messages.
            return True
        return True


def _status(text: str) -> str:
    """Return the text on one line, because a second line would be another assignment."""
    return f"STATUS={' '.join(text.split())[:_STATUS_LENGTH]}"
