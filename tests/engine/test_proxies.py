"""Behind proxies, over real sockets and for both interfaces: who the client is, and who is not heard."""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from clusterd.http.connections.stage import Stage
from clusterd.http.engine import Connection
from clusterd.http.settings import AccessLog, Interface
from clusterd.wire.connection_state import CarriedState
from tests.support.moving import move_on
from tests.support.serving import Answer, Client, Serving, request, serving, wait_until
from tests.support.settings import http_settings, timeouts

HERE = "127.0.0.1"
BEHIND: dict[str, Any] = {"trusted_proxies": (HERE,), "proxy_protocol": True}
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"
ADDRESSES = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 443)
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + ADDRESSES
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNIX = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8" + bytes(216)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Tells what it was told, in the words of both interfaces."""
    start_response("200 OK", [("Server", "mine")] if environ["PATH_INFO"] == "/own" else [])
    seen = {
        "client": [environ["REMOTE_ADDR"] or None, int(environ.get("REMOTE_PORT", 0))],
        "scheme": environ["wsgi.url_scheme"],
        "port": environ["SERVER_PORT"],
        "list": environ.get("HTTP_X_FORWARDED_FOR"),
    }
    return [json.dumps(seen).encode()]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    headers = dict(scope["headers"])
    seen = {
        "client": scope["client"] or [None, 0],
        "scheme": scope["scheme"],
        "port": str(scope["server"][1]) if scope["server"] else None,
        "list": headers[b"x-forwarded-for"].decode() if b"x-forwarded-for" in headers else None,
    }
    own = [(b"server", b"mine")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": own})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@pytest.mark.parametrize(
    ("target", "wsgi_sees", "asgi_sees"),
    [
        ("/shop/cart", "/cart", "/shop/cart"),
        ("/cart", "/cart", "/shop/cart"),
        ("/shopping", "/shopping", "/shop/shopping"),
        ("/shop", "", "/shop"),
    ],
)
def test_below_a_path_it_is_the_same_whether_the_proxy_cuts_it_off(target: str, wsgi_sees: str, asgi_sees: str) -> None:
    def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [json.dumps([environ["SCRIPT_NAME"], environ["PATH_INFO"]]).encode()]

    async def evented(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps([scope["root_path"], scope["path"]]).encode()})

    for application, interface, path in ((plain, Interface.WSGI, wsgi_sees), (evented, Interface.ASGI, asgi_sees)):
        with serving(application, interface=interface, root_path="/shop") as server, server.client() as client:
            assert json.loads(client.get(target).body) == ["/shop", path]


Start = Callable[..., Any]


@pytest.fixture(params=["wsgi", "wsgi in threads", "asgi"])
def start(request: pytest.FixtureRequest) -> Start:
    """`serving`, of each interface, with an access log."""

    def begin(**settings: Any) -> Any:
        if request.param == "asgi":
            return serving(asgi, interface=Interface.ASGI, access_log=AccessLog.ALL, **settings)
        return serving(wsgi, threads=2 if "threads" in request.param else 0, access_log=AccessLog.ALL, **settings)

    return begin


def seen(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    return dict(json.loads(answer.body))


def client_of(answer: Answer) -> tuple[str | None, int]:
    host, port = seen(answer)["client"]
    return host, port


def test_what_a_trusted_proxy_says_is_believed(start: Start) -> None:
    with start(trusted_proxies=(HERE, "10.0.0.0/8")) as server, server.client() as client:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            lines = (f"X-Forwarded-For: 6.6.6.6, {address}, 10.0.0.1", "X-Forwarded-Proto: https")
            told = seen(client.get("/", *lines))
            assert (told["client"], told["scheme"]) == ([address, 0], "https")
            assert told["list"] == f"6.6.6.6, {address}, 10.0.0.1"
        told = seen(client.get("/", 'Forwarded: for="[2001:db8::1]:80";proto=https'))
        assert (told["client"], told["scheme"]) == (["2001:db8::1", 80], "https")
        assert client_of(client.get("/", "Forwarded: for=_hidden")) == (None, 0)
        plain = seen(client.get())
        assert (plain["client"], plain["scheme"]) == ([HERE, client.socket.getsockname()[1]], "http")
        assert plain["port"] == str(server.address[1])
        assert client_of(client.get("/", "X-Forwarded-For: ?")) == tuple(plain["client"])
        wait_until(lambda: len(server.ledger.requests) == 7)
        peers = [each["peer"] for each in server.ledger.requests]
        assert peers == ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", None, HERE, HERE]


def test_the_port_goes_with_the_scheme() -> None:
    with serving(wsgi, trusted_proxies=(HERE,)) as server, server.client() as client:
        assert seen(client.get("/", "X-Forwarded-Proto: https"))["port"] == "443"
        assert seen(client.get("/", "X-Forwarded-For: 192.0.2.1"))["port"] == str(server.address[1])


@pytest.mark.parametrize("trusted", [(), ("10.0.0.0/8", "unix")])
def test_what_anybody_else_says_is_not(start: Start, trusted: tuple[str, ...]) -> None:
    with start(trusted_proxies=trusted) as server, server.client() as client:
        for line in ("X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6;proto=https", "X-Forwarded-Proto: https"):
            told = seen(client.get("/", line))
            assert (told["client"][0], told["scheme"], told["port"]) == (HERE, "http", str(server.address[1]))
        wait_until(lambda: len(server.ledger.requests) == 3)
        assert {each["peer"] for each in server.ledger.requests} == {HERE}


def test_peers_on_a_unix_socket_are_trusted_by_name(start: Start, tmp_path: Path) -> None:
    for trusted, expected in ((("unix",), "192.0.2.1"), ((HERE,), None)):
        with start(trusted_proxies=trusted) as server:
            server.listen_unix(tmp_path / f"{expected}")
            with Client(socket.socket(socket.AF_UNIX)) as client:
                client.socket.connect(str(tmp_path / f"{expected}"))
                assert client_of(client.get("/", "X-Forwarded-For: 192.0.2.1")) == (expected, 0)


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_requests_behind_a_proxy_header_come_from_its_client(start: Start, header: bytes) -> None:
    with start(trusted_proxies=(HERE,), proxy_protocol=True) as server:
        with server.client() as client:
            client.send(header + request("/1") + request("/2", "X-Forwarded-For: 6.6.6.6"))
            for _ in range(2):
                told = seen(client.answer())
                assert (told["client"], told["port"]) == (["192.0.2.1", 4711], "443")
            assert client_of(client.get()) == ("192.0.2.1", 4711)
        with server.client() as client:
            for at in range(len(header)):
                client.send(header[at : at + 1])
                if at % 8 == 0:
                    server.on_loop(lambda: None)
            assert client_of(client.get()) == ("192.0.2.1", 4711)
        wait_until(lambda: len(server.ledger.requests) == 4)
        assert {each["peer"] for each in server.ledger.requests} == {"192.0.2.1"}


def test_headers_without_addresses_leave_those_of_the_socket(start: Start) -> None:
    with start(trusted_proxies=(HERE,), proxy_protocol=True) as server:
        for header in (LOCAL, b"PROXY UNKNOWN\r\n"):
            with server.client() as client:
                client.send(header)
                assert client_of(client.get()) == client.socket.getsockname()
                assert client_of(client.get("/", "X-Forwarded-For: 192.0.2.7")) == ("192.0.2.7", 0)
        with server.client() as client:
            client.send(UNIX)
            assert client_of(client.get("/", "X-Forwarded-For: 6.6.6.6")) == (None, 0)


def test_a_trusted_proxy_behind_another_is_heard(start: Start) -> None:
    with start(trusted_proxies=(HERE, "192.0.2.0/24"), proxy_protocol=True) as server, server.client() as client:
        client.send(LINE + request("/", "X-Forwarded-For: 203.0.113.5"))
        assert client_of(client.answer()) == ("203.0.113.5", 0)


def closes_unanswered(client: Client) -> bool:
    try:
        return client.rest() == b""
    except ConnectionResetError:  # what it sent was not even read
        return True


def test_wrong_bytes_are_closed_without_an_answer_and_told_once() -> None:
    with serving(wsgi, trusted_proxies=(HERE,), proxy_protocol=True) as server:
        for wrong in (request(), b"PROXY TCP9 \r\n" + request(), BINARY[:13] + b"\xff" * 9):
            with server.client() as client:
                client.send(wrong)
                assert closes_unanswered(client)
        wait_until(lambda: server.ledger.done == [400, 400, 400])
        assert len(server.ledger.errors) == 1
        assert "it began with no PROXY protocol header" in server.ledger.errors[0]
        assert len(server.ledger.details) == 2


def test_an_untrusted_peer_is_not_heard_even_with_a_header() -> None:
    with serving(wsgi, trusted_proxies=("10.0.0.0/8",), proxy_protocol=True) as server:
        for _ in range(3):
            with server.client() as client:
                assert closes_unanswered(client)
        wait_until(lambda: server.ledger.done == [403, 403, 403])
        assert len(server.ledger.errors) == 1
        assert server.ledger.errors[0].startswith(f"a connection from {HERE} is closed: it is none of trusted_proxies")
        wait_until(lambda: not server.engine.connections)


def test_a_header_that_does_not_come_is_not_waited_for() -> None:
    with serving(wsgi, timeouts={"header": 0.1, "keepalive": 60}, **BEHIND) as server:
        for part in (b"", LINE[:20]):
            with server.client() as client:
                client.send(part)
                assert closes_unanswered(client)
        assert server.ledger.timeouts.total() == 2
        with server.client() as client:  # that it ends within its header is nobody's fault here
            client.send(LINE[:20])
            client.socket.shutdown(socket.SHUT_WR)
            assert closes_unanswered(client)
        assert not server.ledger.errors


def test_a_proxy_that_only_looks_whether_somebody_listens_is_no_news() -> None:
    """HAProxy's checks of a server connect and reset: the peer's address is not to be had any more."""
    with serving(wsgi, **BEHIND) as server, socket.create_server((HERE, 0)) as listener:
        client = Client(socket.create_connection(listener.getsockname()))
        accepted = listener.accept()[0]
        client.send(LOCAL)
        client.reset()
        server.on_loop(lambda: server.engine.adopt(accepted))
        wait_until(lambda: server.engine.is_idle)
        assert not server.ledger.done
        assert not server.ledger.errors


def test_a_health_check_of_the_service_itself_needs_no_header() -> None:
    with serving(wsgi, trusted_proxies=("10.0.0.0/8",), proxy_protocol=True) as server:
        ours, theirs = socket.socketpair()
        with Client(ours) as client:
            server.on_loop(lambda: server.engine.adopt(theirs, CarriedState.direct()))
            assert seen(client.get())["client"] == [None, 0]


def test_the_server_header_can_be_turned_off(start: Start) -> None:
    for wanted in (True, False):
        with start(server_header=wanted) as server, server.client() as client:
            answer = client.get()
            assert (answer.fields.get("server") == "clusterd") is wanted
            assert "date" in answer.fields
            assert client.get("/own").fields["server"] == "mine"
            client.send(b"nonsense\r\n\r\n")
            refused = client.answer()
            assert (refused.status, "server" in refused.fields) == (400, wanted)


# ---- hand-over


class Mover:
    """Passes every connection on at once, as JSON and a descriptor, and closes its own copy."""

    def __init__(self) -> None:
        self.moved: list[tuple[socket.socket, Any]] = []

    def __call__(self, connection: Connection) -> None:
        carried = json.loads(json.dumps(connection.detach().to_json()))
        self.moved.append((socket.socket(fileno=os.dup(connection.fileno())), carried))
        connection.release()


def move(server: Serving, mover: Mover, successor: Serving) -> CarriedState:
    server.on_loop(server.engine.retirement.hand_over)
    wait_until(lambda: mover.moved)
    sock, document = mover.moved.pop()
    carried = CarriedState.from_json(document)
    successor.on_loop(lambda: successor.engine.adopt(sock, carried))
    return carried


@pytest.mark.parametrize("header", [LINE, BINARY])
@pytest.mark.parametrize("sent", [0, 1, 13, 20, -1])
def test_a_connection_that_moves_within_its_header_still_needs_the_rest(start: Start, header: bytes, sent: int) -> None:
    mover = Mover()
    with start(on_movable=mover, **BEHIND) as server, start(**BEHIND) as successor, server.client() as client:
        part = header[:sent]
        client.send(part)
        wait_until(lambda: any(len(each.residual) == len(part) for each in server.engine.connections))
        carried = move(server, mover, successor)
        assert (carried.residual, carried.awaits_header) == (part, True)
        client.send(header[len(part) :] + request())
        assert client_of(client.answer()) == ("192.0.2.1", 4711)


@pytest.mark.parametrize("header", [LINE, BINARY, UNIX])
def test_a_connection_that_moves_later_keeps_its_client_and_needs_no_header_again(start: Start, header: bytes) -> None:
    mover = Mover()
    with start(on_movable=mover, **BEHIND) as server, start(**BEHIND) as successor, server.client() as client:
        client.send(header + request())
        before = seen(client.answer())
        half = request("/", "X-Forwarded-For: 6.6.6.6")
        client.send(half[:10])
        wait_until(lambda: any(len(each.residual) == 10 for each in server.engine.connections))
        assert not move(server, mover, successor).awaits_header
        client.send(half[10:])
        after = seen(client.answer())
        assert {**before, "list": None} == {**after, "list": None}


def test_the_new_generation_asks_no_header_of_connections_from_before_it_was_wanted(start: Start) -> None:
    mover = Mover()
    with start(on_movable=mover) as server, start(**BEHIND) as successor, server.client() as client:
        client.get()
        move(server, mover, successor)
        assert client_of(client.get()) == client.socket.getsockname()
        assert client_of(client.get("/", "X-Forwarded-For: 192.0.2.7")) == ("192.0.2.7", 0)


def test_a_header_that_was_awaited_is_read_where_it_is_not_wanted_any_more() -> None:
    mover = Mover()
    with (
        serving(wsgi, on_movable=mover, **BEHIND) as server,
        serving(wsgi, trusted_proxies=(HERE,)) as successor,
        server.client() as client,
    ):
        wait_until(lambda: server.engine.connections)
        move(server, mover, successor)
        client.send(LINE + request())
        assert client_of(client.answer()) == ("192.0.2.1", 4711)


@pytest.mark.parametrize("arrived", [b"", LINE[:10], LINE, LINE + request()[:10]])
def test_a_move_that_comes_to_nothing_changes_nothing(arrived: bytes) -> None:
    offered: list[Connection] = []
    with serving(wsgi, on_movable=offered.append, **BEHIND) as server, server.client() as client:
        client.send(arrived)
        wait_until(lambda: any(each.peer and each.peer[1] == 4711 for each in server.engine.connections)
                   if len(arrived) >= len(LINE) else server.engine.connections)  # fmt: skip
        server.on_loop(server.engine.retirement.hand_over)
        wait_until(lambda: offered)
        connection = offered[0]
        server.on_loop(connection.detach)
        server.on_loop(server.engine.retirement.take_back)
        client.send((LINE + request())[len(arrived) :])
        server.on_loop(connection.resume)
        assert client_of(client.answer()) == ("192.0.2.1", 4711)


def test_a_stop_closes_who_has_not_said_anything_yet() -> None:
    with serving(wsgi, timeouts={"header": 60}, **BEHIND) as server, server.client() as client:
        client.send(LINE[:10])
        wait_until(lambda: server.engine.connections)
        server.on_loop(server.engine.retirement.close_idle)
        assert closes_unanswered(client)
        with server.client() as late:
            wait_until(lambda: any(each.stage is Stage.PREFACE for each in server.engine.connections))
            server.on_loop(server.engine.retirement.close_idle)
            assert closes_unanswered(late)


@pytest.mark.parametrize("residual", [b"", LINE[:10], LINE, LINE + request()[:10]])
def test_a_connection_that_moves_as_it_arrives_takes_its_header_with_it(residual: bytes) -> None:
    """As in test_handover_race: either the rest moves on as well, or it was answered before the connection moved."""
    whole = LINE + request()
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(whole[len(residual) :])
        arriving = CarriedState(residual, (HERE, 1), (HERE, 2), "http", 0, awaits_header=True)
        settings = http_settings(threads=0, timeouts=timeouts(header=600), trusted_proxies=(HERE, "unix"))
        carried, rest = uvloop.run(move_on(wsgi, settings, theirs, arriving))
        moved = carried.residual + rest
        assert carried.peer == ((HERE, 1) if carried.awaits_header else ("192.0.2.1", 4711))
        if not carried.awaits_header and not moved:
            assert b'"192.0.2.1", 4711' in ours.recv(65536)
        else:
            assert moved == (whole if carried.awaits_header else request())
