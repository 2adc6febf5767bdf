"""The PROXY protocol: headers of both versions, however they are split, and nothing else."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.http.origins.proxy_protocol import MalformedProxyHeader, ProxyHeader, parse_proxy_header
from clusterd.wire.connection_state import CarriedState

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + struct.pack("!HH", 4711, 443)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
IPV6 += struct.pack("!HH", 4711, 443)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1") * 2 + struct.pack("!HH", 1, 2)


def binary(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


PEER, LOCAL = ("192.0.2.1", 4711), ("198.51.100.2", 443)
PEER6, LOCAL6 = ("2001:db8::1", 4711), ("2001:db8::2", 443)
TLV = b"\x04\0\x05noise"

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", True, PEER, LOCAL),
    (b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 4711 443\r\n", True, PEER6, LOCAL6),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 65535\r\n", True, ("192.0.2.1", 0), ("::1", 65535)),
    (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
     True, ("ffff:" * 7 + "ffff", 65535), ("ffff:" * 7 + "ffff", 65535)),
    (b"PROXY UNKNOWN\r\n", False, None, None),
    (b"PROXY UNKNOWN ffff::1 anything 1 2\r\n", False, None, None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", False, None, None),
    (binary(0x21, 0x11, IPV4), True, PEER, LOCAL),
    (binary(0x21, 0x12, IPV4), True, PEER, LOCAL),
    (binary(0x21, 0x11, IPV4 + TLV), True, PEER, LOCAL),
    (binary(0x21, 0x11, IPV4 + bytes(4084)), True, PEER, LOCAL),
    (binary(0x21, 0x21, IPV6), True, PEER6, LOCAL6),
    (binary(0x21, 0x21, MAPPED), True, ("192.0.2.1", 1), ("192.0.2.1", 2)),
    (binary(0x21, 0x31, bytes(216)), True, None, None),
    (binary(0x21, 0x00, b""), False, None, None),
    (binary(0x21, 0x00, TLV), False, None, None),
    (binary(0x20, 0x00, b""), False, None, None),
    (binary(0x20, 0x11, IPV4), False, None, None),
    (binary(0x20, 0xFF, b"whatever"), False, None, None),
]  # fmt: skip

BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b" PROXY",
    b"proxy TCP4",
    b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
    b"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"PROXY UNKNOWNx\r\n",
    b"PROXY UNKNOWN \r \r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    b"PROXY " + b"x" * 200,
    b"\r\n\r\n\0\r\nQUIT\r" + bytes(4),
    binary(0x11, 0x11, IPV4),
    binary(0x22, 0x11, IPV4),
    binary(0x21, 0x13, IPV4),
    binary(0x21, 0x41, IPV4),
    binary(0x21, 0x11, IPV4[:-1]),
    binary(0x21, 0x21, IPV6[:-1]),
    binary(0x21, 0x31, bytes(215)),
    binary(0x21, 0x11, IPV4 + bytes(4085)),
    binary(0x20, 0x00, bytes(4097)),
]


@pytest.mark.parametrize(("header", "tells_peer", "peer", "local"), GOOD)
@pytest.mark.parametrize("following", [b"", b"GET / HTTP/1.1\r\n", b"\n"])
def test_a_header_is_read_and_not_a_byte_more(
    header: bytes, tells_peer: bool, peer: object, local: object, following: bytes
) -> None:
    assert parse_proxy_header(header + following) == (len(header), tells_peer, peer, local)
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None


def outcome(pieces: list[bytes]) -> ProxyHeader | str | None:
    """What comes of bytes that arrive in pieces."""
    received = b""
    for piece in pieces:
        received += piece
        try:
            header = parse_proxy_header(received)
        except MalformedProxyHeader:
            return "malformed"
        if header is not None:
            return header
    return None


@pytest.mark.parametrize("wrong", BAD)
def test_anything_else_is_refused_however_it_is_split(wrong: bytes) -> None:
    with pytest.raises(MalformedProxyHeader):
        parse_proxy_header(wrong)
    assert outcome([wrong[at : at + 1] for at in range(len(wrong))]) == "malformed"


_beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"])
_whole = st.sampled_from([header for header, *_ in GOOD] + BAD)


@given(st.builds(bytes.__add__, _beginnings, st.binary(max_size=120)) | _whole, st.data())
def test_no_bytes_raise_anything_else_and_no_split_changes_what_they_are(received: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(received)), max_size=5)))
    pieces = [received[a:b] for a, b in zip([0, *cuts], [*cuts, len(received)], strict=True)]
    assert outcome(pieces) == outcome([received])


def test_that_a_header_is_awaited_travels_along() -> None:
    state = CarriedState(b"PROXY TC", ("127.0.0.1", 1), ("127.0.0.1", 2), "http", 0, awaits_header=True)
    assert CarriedState.from_json(state.to_json()) == state
    assert not CarriedState.direct().awaits_header
