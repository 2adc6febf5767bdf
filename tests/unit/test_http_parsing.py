"""Heads and bodies: what is refused, and that nothing depends on how bytes are split on their way."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.http.messages.framing import CHUNKED, ChunkDecoder, body_length
from clusterd.http.messages.head import Head, HeadParser, find_end
from clusterd.http.messages.refusal import Refusal
from clusterd.http.settings import Underscores
from tests.support.settings import limits

LIMITS = limits(request_line=60, headers=120, header_count=5, body=1000)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def head_of(data: bytes) -> Head:
    end = find_end(data, LIMITS)
    assert end
    return HeadParser(LIMITS, Underscores.DROP).parse(data[:end])


def status_of(data: bytes) -> int:
    with pytest.raises(Refusal) as caught:
        body_length(head_of(data), LIMITS)
    return caught.value.status.value


def test_a_head_is_taken_apart() -> None:
    head = head_of(b"POST /a%20b?c=d HTTP/1.1\r\nHost: a:80\r\nX-One:  1 \t\r\nx-one: 2\r\n\r\nrest")
    assert (head.method, head.path, head.query, head.minor) == ("POST", "/a%20b", "c=d", 1)
    assert head.fields == {"host": "a:80", "x-one": "1, 2"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (GET + b"A : b\r\n\r\n", 400),
        (GET + b"A: b\r\n c\r\n\r\n", 400),
        (GET + b"A: b\nC: d\r\n\r\n", 400),
        (GET + b"A: b\rC: d\r\n\r\n", 400),
        (GET + b"A: \x00\r\n\r\n", 400),
        (GET + b": b\r\n\r\n", 400),
        (GET + b"Content-Length: +1\r\n\r\n", 400),
        (GET + b"Content-Length: 1, 1\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Content-Length: 1001\r\n\r\n", 413),
        (GET + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 413),
        (b"GET /" + b"a" * 60 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (GET + b"A: " + b"a" * 120 + b"\r\n\r\n", 431),
        (GET + b"A: b\r\n" * 5 + b"\r\n", 431),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ],
)
def test_what_is_refused(data: bytes, status: int) -> None:
    assert status_of(data) == status


def outcome_of_head(pieces: list[bytes]) -> object:
    received = bytearray()
    for piece in pieces:
        received += piece
        try:
            end = find_end(received, LIMITS)
            if end:
                head = HeadParser(LIMITS, Underscores.DROP).parse(bytes(received[:end]))
                return head.method, head.target, head.minor, head.fields, body_length(head, LIMITS)
        except Refusal as refusal:
            return refusal.status
    return None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


HEAD_PIECES = [b"GET ", b"/ ", b"HTTP/1.1", b"\r\n", b"\r", b"\n", b"Host: a", b"a" * 70]
HEAD_PIECES += [b": ", b"\x00", b"Content-Length: 5", b"X-A: b"]
CHUNK_PIECES = [b"0", b"1", b"5", b"a", b"\r\n", b"\r", b"\n", b"hello", b";x=y", b" "]
CHUNK_PIECES += [b"A: b", b"Host: a", b"0\r\n\r\n", b"5\r\nhello\r\n"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(HEAD_PIECES), max_size=14), st.lists(st.integers(0, 999), max_size=12), st.booleans())
def test_a_head_is_the_same_however_it_is_split(parts: list[bytes], cuts: list[int], valid: bool) -> None:
    data = (GET if valid else b"") + b"".join(parts)
    whole = outcome_of_head([data])
    assert outcome_of_head(split(data, cuts)) == whole
    assert outcome_of_head([data[at : at + 1] for at in range(len(data))]) == whole


def outcome_of_body(pieces: list[bytes]) -> object:
    body = bytearray()
    decoder = ChunkDecoder(body.extend, LIMITS)
    for number, piece in enumerate(pieces):
        try:
            rest = decoder.feed(piece)
        except Refusal as refusal:
            return refusal.status, refusal.reason
        if rest is not None:
            return bytes(body), rest + b"".join(pieces[number + 1 :])
    return bytes(body)


@settings(max_examples=800)
@given(st.lists(st.sampled_from(CHUNK_PIECES), max_size=14), st.lists(st.integers(0, 999), max_size=12))
def test_a_chunked_body_is_the_same_however_it_is_split(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    whole = outcome_of_body([data])
    assert outcome_of_body(split(data, cuts)) == whole
    assert outcome_of_body([data[at : at + 1] for at in range(len(data))]) == whole


def test_a_chunked_body_is_decoded() -> None:
    assert body_length(head_of(GET + b"Transfer-Encoding: Chunked\r\n\r\n"), LIMITS) == CHUNKED
    data = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\nGET /"
    assert outcome_of_body([data]) == (b"hello world", b"GET /")


@pytest.mark.parametrize(
    "data",
    [
        *(b"5 \r\nhello\r\n", b"5\nhello\r\n", b"0x5\r\nhello\r\n", b"-1\r\n", b"\r\n"),
        *(b"5\r\nhellox\r\n", b"5\r\nhello\n", b"1;" + b"a" * 300, b"f" * 17 + b"\r\n"),
        *(b"0\r\nA : b\r\n\r\n", b"0\r\nHost: a\r\n\r\n", b"0\r\n a\r\n\r\n"),
    ],
)
def test_what_a_chunked_body_must_not_be(data: bytes) -> None:
    result = outcome_of_body([data])
    assert isinstance(result, tuple)
    assert result[0] == 400
