"""The identifiers of requests: those that trusted proxies give, and those made here."""

import os
import re
from typing import Final

from clusterd.http.messages.head import Fields
from clusterd.http.messages.reception import Request
from clusterd.http.messages.response import ResponseHead

_match_given: Final = re.compile(r"[A-Za-z0-9._~+/=:@\-]{1,128}").fullmatch
_match_traceparent: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?").fullmatch
_NO_TRACE: Final = "0" * 32
_MOST: Final = 0xFFFFFFFF


class RequestIds:
    """Gives each request of one process its identifier.

    One that is made has 24 hexadecimal digits: 16 random ones of the process, and 8 that count its requests. That costs
    a tenth of a random UUID, is as unique (64 bits tell processes apart, whatever hosts and restarts there are), and
    shows which requests one process had after another. It is no secret: whoever sees one can guess the next.
    """

    __slots__ = ("_count", "_prefix", "_returns")

    def __init__(self, *, returns: bool) -> None:
        self._returns = returns
        """Whether responses have it too."""
        self._prefix = ""
        self._count = _MOST

    def name(self, request: Request, is_trusted: bool) -> None:
        """Give the request its identifier, unless it has one."""
        if not request.id:
            request.id = self.of(request.head.fields, is_trusted)
            if self._returns:
                request.returned_id = request.id

    def of(self, fields: Fields, is_trusted: bool) -> str:
        """Return the identifier of a request with these header fields. `is_trusted`: a trusted proxy has sent them."""
        if is_trusted:
            given = _given(fields)
            if given:
                return given
        if self._count == _MOST:
            self._prefix = os.urandom(8).hex()
            self._count = 0
        self._count += 1
        return f"{self._prefix}{self._count:08x}"


def _given(fields: Fields) -> str:
    given = fields.get("x-request-id", "")
    if _match_given(given) is not None:
        return given
    match = _match_traceparent(fields.get("traceparent", ""))
    return match[1] if match is not None and match[1] != _NO_TRACE else ""


def mark(head: ResponseHead, returned: str) -> None:
    """Add the identifier to a response that does not have one. Empty: add nothing."""
    if returned and b"\nx-request-id:" not in b"\n" + head.fields.lower():
        head.fields += b"X-Request-Id: %b\r\n" % returned.encode("latin-1")
