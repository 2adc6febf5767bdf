"""What the master tells the service manager about itself (sd_notify(3)).

Its own few lines and not `systemd.daemon.notify`: that one waits while the manager does not read, and the
master's loop never waits.
"""

import socket
from collections import deque

_MICROSECONDS = 1_000_000
_KEPT_MESSAGES = 64
_STATUS_LENGTH = 300


class Notifier:
    """Sends each message as one datagram to `address`, $NOTIFY_SOCKET's value; nothing when that is unset.

    A message that cannot be sent now is kept and sent, in order, before the next one.
    """

    def __init__(self, address: str | None) -> None:
        self._waiting: deque[bytes] = deque(maxlen=_KEPT_MESSAGES)
        self._socket: socket.socket | None = None
        self._address = ""
        # Anything else is a VM's vsock, which a manager never gives to a service.
        if address and address[0] in "/@":
            # Not connected: the manager may close and bind its socket anew (daemon-reexec).
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """The service is up.

        RELOADING=1 is never sent: when the master dies after that, systemd 257 waits for the READY=1 of the dead
        process. `ExecReload=` tells systemd of reloads.
        """
        self._send("READY=1", _status(status))

    def stopping(self, status: str) -> None:
        """The service begins to stop."""
        self._send("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(status))

    def watchdog(self) -> None:
        """The loop that calls this is alive. Not kept when it cannot be sent: it would be a lie later."""
        if not self._waiting or self.flush():
            self._send("WATCHDOG=1", keep=False)

    def extend_timeout(self, seconds: float) -> None:
        """Start, reload or stop takes longer: at most this long from now, unless said again."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICROSECONDS)}")

    def flush(self) -> bool:
        """Send what could not be sent before; whether nothing is left."""
        while self._waiting:
            if not self._transmit(self._waiting[0]):
                return False
            self._waiting.popleft()
        return True

    def close(self) -> None:
        """Give the socket back."""
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
            # The manager's socket is gone, and who listens there later wants no old news.
            return True
        return True


def _status(text: str) -> str:
    """One line, whatever the text is: a second one would be an assignment of its own."""
    return f"STATUS={' '.join(text.split())[:_STATUS_LENGTH]}"
