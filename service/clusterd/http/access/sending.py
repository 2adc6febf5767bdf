"""What a connection has sent of a response. Noted only while the access log is on."""

import re
from typing import Final

from clusterd.http.access.answered import Answered
from clusterd.http.messages.reception import Request
from clusterd.linux.address import Address

_find_length: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]+)\r\n").search
_HEAD_END: Final = b"\r\n\r\n"
_INTERIM: Final = b"HTTP/1.1 103 "

CUT_AFTER: Final = " after "
"""What comes before the numbers in the reason of a response that was cut."""


class Sending:
    """One for each connection, for its current response."""

    __slots__ = ("_first", "is_cut_here", "reason", "sent")

    def __init__(self) -> None:
        self._first: bytes | None = None
        """The first bytes that were sent, with the whole head."""
        self.sent = 0
        """How many bytes were sent."""
        self.reason = ""
        """Why the response is a refusal, or is incomplete."""
        self.is_cut_here = False
        """Whether this process cuts the connection, and has said so."""

    def add(self, data: bytes) -> None:
        """Note what is sent."""
        if self._first is None:
            if data.startswith(_INTERIM):
                return
            self._first = data
        self.sent += len(data)

    def reset(self) -> None:
        """Begin with the next response."""
        self._first, self.sent, self.reason = None, 0, ""

    def note_cut(self, how: str) -> None:
        """The client has gone: it has "closed" or "reset" the connection. Note how much of a response with a length it
        got.

        How much of another one is missing cannot be known, and clients leave streams at any time.
        """
        first = self._first
        if first is None or self.reason or self.is_cut_here:
            return
        match = _find_length(first, 0, first.find(_HEAD_END) + 2)
        if match is not None and self._body < int(match[1]):
            self.reason = f"the client has {how} the connection{CUT_AFTER}{self._body} of {int(match[1])} bytes"

    @property
    def _body(self) -> int:
        """Bytes of the body that were sent."""
        first = self._first
        return 0 if first is None else max(0, self.sent - first.find(_HEAD_END) - len(_HEAD_END))

    def answered(
        self, request: Request | None, received: bytes, peer: Address | None, status: int, duration: float
    ) -> Answered:
        """Return the request for the access log. `received` is what has come of a request without a head."""
        if request is None:
            answered = Answered(None, received, status, duration, -1.0)
        else:
            answered = Answered(request.head, b"", status, duration, request.waited)
            answered.request_id = request.id
        answered.peer = peer[0] if peer else ""
        answered.bytes = self._body
        answered.reason = self.reason
        return answered
