"""A request that is over, as the access log sees it."""

import re
from base64 import b64decode
from typing import Final

from clusterd.http.messages.head import Fields, Head

_LONGEST_LINE = 300
"""Characters that are logged of a request line that is not one."""
_match_basic = re.compile(r"(?i:basic) +([A-Za-z0-9+/=]+)").fullmatch
_NOTHING: Final = Fields({}, [])


class Answered:
    """Times are in seconds. What is not known is empty, or less than 0."""

    __slots__ = (
        "bytes",
        "duration",
        "fields",
        "method",
        "peer",
        "protocol",
        "queue",
        "reason",
        "request_id",
        "status",
        "target",
    )

    def __init__(self, head: Head | None, received: bytes, status: int, duration: float, queue: float) -> None:
        """`received` is what has come of a request without a head."""
        self.status = status
        self.duration = duration
        """From the end of the head to the end of the response."""
        self.queue = queue
        """The time before the application was called."""
        self.bytes = 0
        """Bytes of the response's body, as they were sent: with the framing of a chunked body."""
        self.peer = ""
        self.request_id = ""
        self.reason = ""
        """Why clusterd has refused the request, or why its response is incomplete."""
        if head is not None:
            self.method, self.target, self.fields = head.method, head.target, head.fields
            self.protocol = "HTTP/1.1" if head.minor else "HTTP/1.0"
        else:
            self.method, self.target, self.protocol = _read(received)
            self.fields = _NOTHING

    def field(self, name: str) -> str:
        """Return a header field of the request, or an empty text."""
        return self.fields.get(name, "")

    def user(self) -> str:
        """Return the name in the credentials of the request (RFC 7617). Nothing says that they are right."""
        match = _match_basic(self.fields.get("authorization", ""))
        if match is None:
            return ""
        try:
            return b64decode(match[1], validate=True).decode("latin-1").partition(":")[0]
        except ValueError:
            return ""


def _read(received: bytes) -> tuple[str, str, str]:
    """Return method, target and protocol of what may be no request line, as far as they can be told apart."""
    line = received.lstrip(b"\r\n").partition(b"\n")[0][: _LONGEST_LINE + 1].decode("latin-1").rstrip("\r")
    method, _, rest = line.partition(" ")
    target, _, protocol = rest.rpartition(" ")
    if protocol.startswith("HTTP/") and method.isalpha():
        return method, target, protocol
    return "", line, ""
