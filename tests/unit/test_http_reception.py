"""Requests out of bytes, however these were split on their way."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.http.messages.head import HeadParser
from clusterd.http.messages.reception import Received, Reception
from clusterd.http.messages.refusal import Refusal
from clusterd.http.settings import Limits, Underscores
from clusterd.http.wsgi.body import Body
from tests.support.settings import limits

PIPELINE = (
    b"\r\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nseven\r\n"
    b"\r\n\r\nPUT /third HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
    b"POST /fourth HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    b"GET /fifth HTTP/1.1\r\nHo"
)
REQUESTS = [("/first", None), ("/second", b"seven\r\n"), ("/third", b"abcde"), ("/fourth", None)]


def reception_of(limits: Limits, residual: bytes) -> Reception:
    reception = Reception(HeadParser(limits, Underscores.DROP), limits, Body)
    reception.take(residual)
    return reception


def receive(reception: Reception, pieces: Sequence[bytes]) -> list[tuple[str, bytes | None]]:
    """Every request that is complete by the end of the pieces."""
    requests = []
    for piece in pieces:
        reception.take(piece)
        while reception.advance() is Received.REQUEST:
            request = reception.request
            assert request is not None
            body = request.body
            requests.append((request.head.target, body.file.read() if isinstance(body, Body) else None))
            reception.finish()
    return requests


@given(st.lists(st.integers(1, len(PIPELINE) - 1), unique=True))
def test_requests_do_not_depend_on_how_their_bytes_were_split(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(PIPELINE)]
    reception = reception_of(limits(), b"")
    pieces = [PIPELINE[start:end] for start, end in pairwise(edges)]
    assert receive(reception, pieces) == REQUESTS
    assert reception.residual == b"GET /fifth HTTP/1.1\r\nHo"
    assert reception.advance() is Received.HEAD


def test_what_another_process_had_read_comes_first() -> None:
    reception = reception_of(limits(), PIPELINE[:40])
    assert receive(reception, [PIPELINE[40:]]) == REQUESTS


def test_it_says_how_much_is_here() -> None:
    reception = reception_of(limits(), b"")
    assert reception.advance() is Received.NOTHING
    reception.take(b"POST / HTTP/1.1\r\n")
    assert (reception.advance(), reception.request) == (Received.HEAD, None)
    reception.take(b"Host: a\r\nContent-Length: 2\r\n\r\n")
    assert reception.advance() is Received.BODY
    assert reception.request is not None
    assert (reception.pending, reception.is_awaited) == (0, False)
    reception.take(b"xy and more")
    assert reception.advance() is Received.REQUEST
    assert reception.residual == b" and more"
    reception.drop()
    reception.finish()
    assert reception.advance() is Received.NOTHING


@pytest.mark.parametrize(("sent_along", "is_awaited"), [(b"", True), (b"x", False)])
def test_a_client_waits_for_100_only_while_it_has_sent_nothing_of_the_body(sent_along: bytes, is_awaited: bool) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    reception = reception_of(limits(), head + sent_along)
    assert reception.advance() is Received.BODY
    assert reception.is_awaited is is_awaited


def test_a_refused_request_is_known_as_far_as_its_head_was_good() -> None:
    reception = reception_of(limits(body=1), b"POST /much HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    with pytest.raises(Refusal, match="413"):
        reception.advance()
    assert reception.request is not None
    assert reception.request.head.target == "/much"
