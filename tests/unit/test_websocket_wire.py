"""The frames of WebSockets: what another implementation says is understood, however it arrives, and the reverse."""

import itertools
import sys
import zlib
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from clusterd.http.asgi.websocket import frames, masking
from clusterd.http.asgi.websocket.compression import Compression, agree
from clusterd.http.asgi.websocket.frames import Close, Fault, Incoming, Pause, Ping
from clusterd.http.asgi.websocket.wire import TURN_COST, Wire
from clusterd.http.messages.allowance import SMALL_BYTES
from tests.support.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LIMIT = 200_000
PARAMETERS = [
    "none",
    "",
    "; server_no_context_takeover",
    "; client_no_context_takeover; server_max_window_bits=9",
    "; client_max_window_bits=10",
]
messages = st.one_of(st.text(max_size=300), st.binary(max_size=300), st.sampled_from([b"z" * 70_000, "é" * 50_000]))


def events(wire: Wire, pieces: Iterable[bytes]) -> Iterator[Incoming]:
    """What comes of the bytes, turn by turn, to the first that ends it."""
    for piece in pieces:
        wire.take(piece)
        while (event := wire.next()) is not None:
            if isinstance(event, Pause):
                wire.begin_turn()
                continue
            yield event
            if isinstance(event, (Close, Fault)):
                return


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


def agreed(parameters: str) -> tuple[Wire, list[PerMessageDeflate]]:
    """The two sides of a WebSocket with these parameters of compression, ours first; without any if they are "none"."""
    if parameters == "none":
        return Wire(LIMIT, None), []
    agreement = agree([f"permessage-deflate{parameters}"])
    assert agreement is not None
    forgets = ("server_no_context_takeover" in parameters, "client_no_context_takeover" in parameters)
    return Wire(LIMIT, Compression(agreement)), [PerMessageDeflate(*forgets, 15, 15)]


def sent(message: str | bytes, fragments: int, extensions: list[PerMessageDeflate]) -> bytes:
    """By a client of another implementation, in so many frames, with a ping between each two."""
    opcode, data = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
    size = max(1, -(-len(data) // fragments))
    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    written = b""
    for number, part in enumerate(parts):
        made = Frame(Opcode.CONT if number else opcode, part, fin=number == len(parts) - 1)
        written += made.serialize(mask=True, extensions=extensions)
        if not made.fin:
            written += Frame(Opcode.PING, b"between").serialize(mask=True, extensions=[])
    return written


def received(data: bytes, extensions: list[PerMessageDeflate]) -> list[Frame]:
    """The frames that a client of another implementation reads."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
        with pytest.raises(StopIteration) as stopped:
            next(parser)
        found.append(stopped.value.value)
    return found


@pytest.mark.parametrize("parameters", PARAMETERS)
@given(st.lists(messages, max_size=4), st.integers(1, 9), st.lists(st.integers(0), max_size=20))
def test_what_a_client_sends_arrives_however_it_is_cut(
    parameters: str, told: list[str | bytes], fragments: int, places: list[int]
) -> None:
    wire, extensions = agreed(parameters)
    data = b"".join(sent(each, fragments, extensions) for each in told)
    found = list(events(wire, cut(data, places)))
    assert [each for each in found if not isinstance(each, Ping)] == told
    assert {each.payload for each in found if isinstance(each, Ping)} <= {b"between"}
    assert wire.held == 0


@pytest.mark.parametrize("parameters", PARAMETERS)
@given(st.lists(messages, min_size=1, max_size=4))
def test_a_client_reads_what_is_sent(parameters: str, told: list[str | bytes]) -> None:
    wire, extensions = agreed(parameters)
    read = received(b"".join(map(wire.message, told)), extensions)
    assert [bytes(each.data) for each in read] == [m.encode() if isinstance(m, str) else m for m in told]
    assert [each.opcode for each in read] == [Opcode.TEXT if isinstance(m, str) else Opcode.BINARY for m in told]


@given(st.binary(max_size=400), st.lists(st.integers(0), max_size=20), st.booleans())
def test_any_bytes_are_events_or_a_fault(data: bytes, places: list[int], compressed: bool) -> None:
    agreement = agree(["permessage-deflate"]) if compressed else None
    whole, pieces = (
        list(events(Wire(1000, Compression(agreement) if agreement else None), given))
        for given in ([data] if data else [], cut(data, places))
    )
    assert whole == pieces


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_a_mask_is_removed_byte_by_byte(data: bytes, mask: bytes) -> None:
    assert masking.unmask(data, mask) == bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


def test_a_message_that_says_at_its_beginning_that_it_is_too_long_is_not_waited_for() -> None:
    wire = Wire(1000, None)
    wire.take(frame(BINARY, bytes(1001))[:14])
    assert wire.next() == Fault(Close(1009, "message above 1000 bytes"))


@pytest.mark.parametrize(
    "head", [b"\x82\xfe\x00\x7d", b"\x82\xff" + (65535).to_bytes(8, "big"), b"\x82\xff" + (1 << 63).to_bytes(8, "big")]
)
def test_a_length_that_is_longer_than_it_must_be_breaks_the_protocol(head: bytes) -> None:
    wire = Wire(1 << 64, None)
    wire.take(head + bytes(4))
    found = wire.next()
    assert isinstance(found, Fault)
    assert found.close.code == 1002


def test_others_have_their_turn_after_so_many_frames() -> None:
    wire = Wire(LIMIT, None)
    wire.take(frame(TEXT, b"x") * (2 * TURN_COST + 1))
    for turn in (TURN_COST, TURN_COST, 1):
        wire.begin_turn()
        assert [wire.next() for _ in range(turn)] == ["x"] * turn
        if turn == TURN_COST:
            assert isinstance(wire.next(), Pause)
    assert wire.next() is None


def test_what_only_costs_is_counted() -> None:
    wire = Wire(LIMIT, None)
    small, large = bytes(SMALL_BYTES - 1), bytes(SMALL_BYTES)
    sent = [
        frame(BINARY, large, fin=False),
        frame(CONTINUATION, small, fin=False),
        frame(CONTINUATION, small),
        frame(PING),
        frame(PONG),
    ]
    assert list(events(wire, [b"".join(sent)])) == [large + small + small, Ping(b"")]
    assert wire.small == 3


@given(st.text(max_size=200))
def test_a_reason_is_cut_where_a_character_ends(reason: str) -> None:
    payload = Wire(LIMIT, None).close(Close(1000, reason))[2:]
    assert len(payload) <= frames.MOST_CONTROL_BYTES
    assert reason.startswith(payload[2:].decode())


@pytest.mark.parametrize("code", [*range(1000, 1016), 2999, 3000, 4999, 5000, 65535])
def test_a_client_may_close_with_the_codes_that_are_registered(code: int) -> None:
    found = list(events(Wire(LIMIT, None), [frame(CLOSE, code.to_bytes(2, "big") + b"why")]))
    is_allowed = code in {1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999}
    assert found == [Close(code, "why")] if is_allowed else isinstance(found[0], Fault)


def deflated(data: bytes, ending: int) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush(ending)


def test_a_message_may_be_a_whole_stream() -> None:
    wire, _ = agreed("")
    for end in (b"", b"\x00"):
        wire.begin_turn()
        wire.take(frame(TEXT, deflated(b"whole", zlib.Z_FINISH) + end, rsv1=True))
        assert wire.next() == "whole"


@pytest.mark.parametrize("rest", [deflated(b"more", zlib.Z_SYNC_FLUSH)[:-4], b"\x00\x00", b"garbage"])
def test_what_follows_the_end_of_a_stream_is_not_dropped_silently(rest: bytes) -> None:
    wire, _ = agreed("")
    wire.take(frame(TEXT, deflated(b"Hello", zlib.Z_FINISH) + rest, rsv1=True))
    found = wire.next()
    assert isinstance(found, Fault)
    assert found.close.code == 1007


def test_what_follows_the_end_of_a_stream_is_not_kept() -> None:
    """zlib keeps it, and copied all of it for each slice."""
    wire, _ = agreed("")
    endless = frame(TEXT, deflated(b"", zlib.Z_FINISH) + b"\x00" + bytes(50_000), fin=False, rsv1=True)
    found = list(events(wire, cut(endless, range(0, len(endless), 1000))))
    assert [type(each) for each in found] == [Fault]


def test_a_slice_that_becomes_large_ends_the_turn() -> None:
    agreement = agree(["permessage-deflate"])
    assert agreement is not None
    wire = Wire(1 << 24, Compression(agreement))
    wire.take(frame(BINARY, deflated(bytes(1 << 24), zlib.Z_SYNC_FLUSH)[:-4], rsv1=True))
    assert isinstance(wire.next(), Pause)
    assert 0 < wire.held < 5_000_000


def test_a_message_after_a_compressed_one_is_too_long_at_its_beginning_too() -> None:
    wire, (extension,) = agreed("")
    wire.take(sent("compressed", 1, [extension]) + frame(BINARY, bytes(LIMIT + 1))[:14])
    assert wire.next() == "compressed"
    assert isinstance(wire.next(), Fault)


def test_nothing_is_kept_of_what_is_decoded() -> None:
    wire = Wire(LIMIT, None)
    data = frame(BINARY, bytes(100_000)) + frame(PING)
    for more in (b"", frame(BINARY, bytes(1000))[:20]):
        read = data + more
        before = sys.getrefcount(read)
        wire.begin_turn()
        wire.take(read)
        while wire.next() is not None:
            pass
        assert sys.getrefcount(read) == before
        wire = Wire(LIMIT, None)
