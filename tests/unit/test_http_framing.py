"""Heads and chunks: one strict grammar, whatever way the bytes are split; responses that inject nothing."""

from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.http.messages.framing import ChunkDecoder, body_length
from clusterd.http.messages.head import FieldLine, Fields, Head, HeadParser, find_end
from clusterd.http.messages.refusal import Refusal
from clusterd.http.messages.response import TEXT_FIELDS, Encoder, ResponseHead, Stamp
from clusterd.http.settings import Underscores
from clusterd.http.wsgi.body import BodyReader
from clusterd.http.wsgi.environ import EnvironMaker
from tests.support.settings import limits

LIMITS = limits(body=1000, headers=500, header_count=5, request_line=100)


def status_of(head: bytes) -> int:
    """The status with which a head is refused; 0 for one that is accepted."""
    try:
        end = find_end(head, LIMITS)
        assert end, "incomplete"
        body_length(HeadParser(LIMITS, Underscores.DROP).parse(head[:end]), LIMITS)
    except Refusal as refusal:
        return refusal.status.value
    return 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", 0),
        (b"GET / HTTP/1.0", 0),
        (b"GET http://b/x HTTP/1.1\r\nHost: a", 0),
        (b"OPTIONS * HTTP/1.1\r\nHost: a", 0),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : 1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: 1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\rY: 2", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: 1", 400),
        (b"GET / HTTP/1.1\nHost: a", 400),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET /#f HTTP/1.1\r\nHost: a", 400),
        (b"GET x HTTP/1.1\r\nHost: a", 400),
        (b"GET * HTTP/1.1\r\nHost: a", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a", 501),
        (b"GET / HTTP/2.0\r\nHost: a", 505),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 500, 431),
        (b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX: 1" * 5, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001", 413),
    ],
)
def test_head_is_taken_or_refused(lines: bytes, status: int) -> None:
    assert status_of(lines + b"\r\n\r\n") == status


def decode(pieces: list[bytes]) -> tuple[bytes, bytes | None, int]:
    """The body, what follows it, and the status of a refusal."""
    body = bytearray()
    decoder = ChunkDecoder(body.extend, LIMITS)
    for number, piece in enumerate(pieces):
        try:
            rest = decoder.feed(piece)
        except Refusal as refusal:
            return b"", None, refusal.status.value
        if rest is not None:
            return bytes(body), rest + b"".join(pieces[number + 1 :]), 0
    return bytes(body), None, 0


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    chunks = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    extension = draw(st.sampled_from([b"", b";a=b", b";" + b"x" * 200, b" ", b";\x00"]))
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    last = draw(
        st.sampled_from([b"0\r\n\r\n", b"0\r\nX: 1\r\n\r\n", b"0\r\nHost: 1\r\n\r\n", b"0\n\n", b"5 x\r\n\r\n"])
    )
    return framed + last + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n"]))


@given(chunked(), st.lists(st.integers(0, 300), max_size=12))
def test_chunks_mean_the_same_however_they_are_split(data: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(places)]
    whole, split = decode([data]), decode(pieces)
    assert split == whole
    assert decode([bytes([byte]) for byte in data]) == whole


@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_break_the_decoder(data: bytes, cut: int) -> None:
    assert decode([data[:cut], data[cut:]])[2] == decode([data])[2]


@pytest.mark.parametrize(
    "header",
    [
        ("X", "a\r\nY: b"),
        ("X", "a\nb"),
        ("X", "a\rb"),
        ("X", "\0"),
        ("X\r\nY", "b"),
        ("", "b"),
        ("X ", "b"),
        ("Transfer-Encoding:chunked", ""),
        ("Content-Length: 5, x", "b"),
        ("X", "\u20ac"),
    ],
)
def test_no_response_header_injects_anything(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"malformed|latin-1"):
        ResponseHead("200 OK", [header], TEXT_FIELDS, "here")


@pytest.mark.parametrize("status", ["200", "20 OK", "200 O\r\nK", "099 OK", "100 Continue", ""])
def test_malformed_status_is_refused(status: str) -> None:
    with pytest.raises(ValueError, match=r"status|final"):
        ResponseHead(status, [], TEXT_FIELDS, "here")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_response_without_a_body_has_none(status: str) -> None:
    encoder = Encoder(Head("GET", "/", 1, Fields({}, [])), persistent=True)
    sent = (
        encoder.start(ResponseHead(status, [], TEXT_FIELDS, "here"), Stamp(), b"body")
        + encoder.more(b"more")
        + encoder.end()
    )
    assert sent.endswith(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in sent
    assert encoder.persistent


def test_underscored_name_does_not_shadow_a_hyphenated_one() -> None:
    lines = [FieldLine("X-User", "real"), FieldLine("x_user", "forged"), FieldLine("Content_Length", "7")]
    fields = Fields({line.name: line.value for line in lines}, lines)
    maker = EnvironMaker("/app", 4)
    of_connection = maker.of_connection(("1.2.3.4", 5), ("5.6.7.8", 80), "http")
    environ = maker.make(of_connection, Head("GET", "/a%20b?q=%20", 1, fields), None, BodyReader(BytesIO(), print))
    assert environ["HTTP_X_USER"] == "real"
    assert "CONTENT_LENGTH" not in environ
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["SCRIPT_NAME"]) == ("/a b", "q=%20", "/app")
