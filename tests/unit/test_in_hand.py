"""The table of the requests that a worker has in hand: written by its engine, read by the master."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from clusterd.http.in_hand import MOST_WEBSOCKETS, InHand
from clusterd.linux.address import Address
from clusterd.metrics.shared.counting import RequestCounter
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS, Scoreboard
from clusterd.wire.in_hand import (
    LINE_BYTES,
    MOST_DESCRIPTORS,
    PLACES,
    TABLE_BYTES,
    Kind,
    RequestInHand,
    Table,
    movable_descriptors,
    read_table,
)

PEER = ("127.0.0.1", 4711)


@dataclass
class Call:
    is_running: bool = True
    runs_in: object = None


class Client:
    """What a connection does with its place."""

    def __init__(self, in_hand: InHand, peer: Address | None = PEER, descriptor: int = 7) -> None:
        self.in_hand = in_hand
        self.descriptor = descriptor
        self.place = in_hand.nowhere
        self.peer = peer

    def begin(self, target: str, started: float = 1.0) -> "Client":
        line = f"GET {target} HTTP/1.1\r\n".encode()
        self.place = self.in_hand.begin(self.place, self, self.descriptor, line, self.peer, started)
        return self

    def end(self) -> None:
        self.place = self.in_hand.end(self.place, self)

    def becomes_websocket(self) -> None:
        self.place = self.in_hand.is_websocket(self.place, self)

    def leave(self, call: Call) -> None:
        self.place = self.in_hand.left(self.place, self, call)

    def close(self) -> None:
        self.in_hand.closed(self.place, self)


@pytest.fixture
def scoreboard() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(TABLE_BYTES))


def targets(table: Table) -> list[str]:
    return [each.target for each in table.requests]


def test_the_master_reads_what_a_worker_has_in_hand_until_it_is_over(scoreboard: Scoreboard) -> None:
    master = Scoreboard.attach(os.dup(scoreboard.descriptor))
    row = scoreboard.lease()
    in_hand = InHand(scoreboard.table(row))
    second, first = Client(in_hand, None).begin("/second", 20.0), Client(in_hand).begin("/first", 10.5)
    in_hand.runs(first.place, 0x7F0123456789)
    in_hand.runs_loop(0x7F0000000001)
    assert master.in_hand(row) == Table(
        (
            RequestInHand("GET", "/first", 10.5, "127.0.0.1:4711", 0x7F0123456789, Kind.REQUEST),
            RequestInHand("GET", "/second", 20.0, "unix", 0, Kind.REQUEST),
        ),
        loop_thread=0x7F0000000001,
    )
    first.end()
    assert targets(master.in_hand(row)) == ["/second"]
    second.end()
    assert targets(master.in_hand(row)) == []
    master.close()


def test_the_next_worker_of_a_row_begins_with_nothing_and_its_neighbours_keep_theirs(scoreboard: Scoreboard) -> None:
    rows = [scoreboard.lease() for _ in range(2)]
    for row in rows:
        RequestCounter(scoreboard.row(row)).request_done(599, 1000.0, 0.0)
        in_hand = InHand(scoreboard.table(row))
        for number in range(PLACES + 1):
            Client(in_hand, ("2001:0db8:0000:0000:0000:0000:0000:0001%enp0s31f6", number)).begin("/" + "x" * 1000)
    before = scoreboard.row(rows[1]).totals()
    scoreboard.release(rows[0])
    assert scoreboard.in_hand(rows[0]) == Table()
    found = scoreboard.in_hand(rows[1])
    assert (len(found.requests), found.unnamed) == (PLACES, 1)
    assert found.requests[0].peer.startswith("2001:0db8:")
    assert scoreboard.row(rows[1]).totals() == before
    with pytest.raises(IndexError):
        scoreboard.in_hand(MAXIMUM_ROWS)


def test_the_oldest_are_kept_and_the_others_are_counted(memory: memoryview) -> None:
    in_hand = InHand(memory)
    clients = [Client(in_hand).begin(f"/{number}", 1.0 + number) for number in range(PLACES + 5)]
    assert targets(read_table(memory)) == [f"/{number}" for number in range(PLACES)]
    assert read_table(memory).unnamed == 5
    in_hand.runs(clients[-1].place, 4711)
    clients[-1].end()
    clients[-2].leave(Call())
    clients[-3].becomes_websocket()
    clients[-4].close()
    clients[7].end()
    clients[7].end()
    assert read_table(memory).unnamed == 1
    clients[-1].begin("/late", 1000.0)
    assert targets(read_table(memory))[-1] == "/late"
    for client in (*clients[:7], *clients[8:PLACES], clients[-5], clients[-1]):
        client.end()
    assert read_table(memory) == Table()


def test_a_connection_keeps_its_place_until_another_needs_it(memory: memoryview) -> None:
    in_hand = InHand(memory)
    ours = Client(in_hand).begin("/")
    place = ours.place
    for _ in range(3):
        ours.end()
        assert ours.begin("/").place is place
    ours.end()
    others = [Client(in_hand).begin(f"/{number}") for number in range(PLACES)]
    assert sorted(targets(read_table(memory))) == sorted(f"/{number}" for number in range(PLACES))
    assert ours.begin("/unnamed").place is not place
    assert read_table(memory).unnamed == 1
    ours.end()
    others[3].close()
    assert ours.begin("/again").place is others[3].place
    assert "/again" in targets(read_table(memory))


def test_many_connections_that_rest_share_the_places(memory: memoryview) -> None:
    in_hand = InHand(memory)
    clients = [Client(in_hand, ("127.0.0.1", number)) for number in range(3 * PLACES)]
    for _ in range(2):
        for number, client in enumerate(clients):
            client.begin(f"/{number}")
            [found] = read_table(memory).requests
            assert (found.target, found.peer) == (f"/{number}", f"127.0.0.1:{number}")
            client.end()
    for client in clients:
        client.close()
    assert len({id(Client(in_hand).begin("/").place) for _ in range(PLACES)}) == PLACES
    assert read_table(memory).unnamed == 0


def test_what_a_place_held_before_is_not_taken_for_the_next_request(memory: memoryview) -> None:
    in_hand = InHand(memory)
    first = Client(in_hand, ("2001:db8::1", 65535)).begin("/a-long-target")
    in_hand.runs(first.place, 4711)
    first.close()
    Client(in_hand, None).begin("/b", 2.0)
    assert read_table(memory).requests == (RequestInHand("GET", "/b", 2.0, "unix", 0, Kind.REQUEST),)


@pytest.mark.parametrize(
    ("target", "whole", "kept"),
    [
        ("/a%20b?secret=1", False, "/a%20b"),
        ("/a%20b?secret=1", True, "/a%20b?secret=1"),
        ("/" + "x" * 1000, False, "/" + "x" * (LINE_BYTES - 8) + "..."),
        ("/" + "x" * (LINE_BYTES - 6), False, "/" + "x" * (LINE_BYTES - 6)),
        ("/?" + "x" * 1000, False, "/"),
        ("http://shop.example/?q", False, "http://shop.example/"),
    ],
)
def test_a_target_is_kept_without_its_query_and_cut(memory: memoryview, target: str, whole: bool, kept: str) -> None:
    Client(InHand(memory)).begin(target)
    assert targets(read_table(memory, whole=whole)) == [kept]


def test_a_request_that_its_connection_has_left_stays_until_its_call_has_ended(memory: memoryview) -> None:
    in_hand, call = InHand(memory), Call()
    client = Client(in_hand).begin("/slow")
    place = client.place
    client.leave(call)
    client.close()
    in_hand.tick()
    assert [each.kind for each in read_table(memory).requests] == [Kind.LEFT]
    assert in_hand.left_requests() == [(place.index, b"GET /slow HTTP/1.1\r\n", 1.0, call)]
    assert Client(in_hand).begin("/next", 2.0).place is not place
    call.is_running = False
    in_hand.tick()
    assert targets(read_table(memory)) == ["/next"]
    again = Client(in_hand).begin("/slow", 3.0)
    assert again.place is place
    assert [each.kind for each in read_table(memory).requests] == [Kind.REQUEST, Kind.REQUEST]
    again.leave(Call(is_running=False))
    assert targets(read_table(memory)) == ["/next"]


def test_websockets_are_called_so_and_leave_places_for_requests(memory: memoryview) -> None:
    in_hand = InHand(memory)
    clients = [Client(in_hand).begin("/ws") for _ in range(MOST_WEBSOCKETS + 1)]
    for client in clients:
        client.becomes_websocket()
    found = read_table(memory)
    assert ([each.kind for each in found.requests], found.unnamed) == ([Kind.WEBSOCKET] * MOST_WEBSOCKETS, 0)
    clients[0].leave(Call(is_running=False))
    clients[1].close()
    clients[2].leave(Call())
    assert [each.kind for each in read_table(memory).requests].count(Kind.WEBSOCKET) == MOST_WEBSOCKETS - 3
    more = [Client(in_hand).begin("/ws", 2.0) for _ in range(4)]
    assert {each.kind for each in read_table(memory).requests[-4:]} == {Kind.REQUEST}
    for client in more:
        client.becomes_websocket()
    assert [each.kind for each in read_table(memory).requests].count(Kind.WEBSOCKET) == MOST_WEBSOCKETS


def test_what_is_cut_stays_in_the_table(memory: memoryview) -> None:
    in_hand = InHand(memory)
    client = Client(in_hand).begin("/cut")
    in_hand.freeze()
    in_hand.runs(client.place, 4711)
    client.end()
    Client(in_hand).begin("/later", 2.0)
    in_hand.runs_loop(1)
    assert read_table(memory) == Table((RequestInHand("GET", "/cut", 1.0, "127.0.0.1:4711", 0, Kind.REQUEST),))


def test_whatever_a_worker_has_written_can_be_read() -> None:
    for byte in (0x01, 0x3F, 0x7F, 0x80, 0xFF):
        table = read_table(memoryview(bytearray([byte]) * TABLE_BYTES))
        assert table.unnamed >= 0
        assert all(each.kind is Kind.REQUEST for each in table.requests)


def test_a_connection_can_move_while_no_request_of_it_is_in_hand(memory: memoryview) -> None:
    in_hand = InHand(memory)
    first, second = Client(in_hand, descriptor=10), Client(in_hand, descriptor=11)
    for each in (10, 11, MOST_DESCRIPTORS - 1, MOST_DESCRIPTORS, MOST_DESCRIPTORS + 5):
        in_hand.can_move(each)
    assert movable_descriptors(memory) == [10, 11, MOST_DESCRIPTORS - 1]
    first.begin("/")
    second.begin("/")
    in_hand.runs(second.place, 1)
    assert movable_descriptors(memory) == [MOST_DESCRIPTORS - 1]
    first.end()
    assert movable_descriptors(memory) == [10, MOST_DESCRIPTORS - 1]
    first.begin("/again")
    assert movable_descriptors(memory) == [MOST_DESCRIPTORS - 1]
    first.end()
    for each in (10, MOST_DESCRIPTORS, MOST_DESCRIPTORS - 1):
        in_hand.cannot_move(each)
    second.end()
    assert movable_descriptors(memory) == [11]


def test_a_place_goes_to_another_connection_with_its_descriptor(memory: memoryview) -> None:
    in_hand = InHand(memory)
    clients = [Client(in_hand, descriptor=100 + number) for number in range(PLACES + 1)]
    for client in clients:
        in_hand.can_move(client.descriptor)
        client.begin("/")
        client.end()
    clients[-1].begin("/")
    assert movable_descriptors(memory) == list(range(100, 100 + PLACES))


def test_the_descriptor_of_a_connection_that_has_left_its_request_may_be_anothers(memory: memoryview) -> None:
    in_hand = InHand(memory)
    Client(in_hand, descriptor=10).begin("/").leave(Call())
    in_hand.can_move(10)
    assert movable_descriptors(memory) == [10]


def test_nonsense_in_the_table_is_no_error(memory: memoryview) -> None:
    memory[:] = os.urandom(TABLE_BYTES)
    assert set(movable_descriptors(memory)) <= set(range(MOST_DESCRIPTORS))
