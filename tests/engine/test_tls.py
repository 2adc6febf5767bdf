"""HTTPS, as clients see it: byte by byte, and with everything that plain HTTP does."""

import ctypes
import hashlib
import json
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from clusterd.config.model import TlsVersion
from clusterd.http.connections.stage import Stage
from clusterd.http.engine import Connection
from clusterd.http.settings import Interface
from clusterd.wire.connection_state import CarriedState
from tests.support.certificates import NAME, Certificate, make_certificate
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until

HUGE = 3_000_000


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    seen = {"scheme": environ["wsgi.url_scheme"], "client": environ["REMOTE_ADDR"], "digest": digest(body)}
    huge = b"x" * HUGE if environ["PATH_INFO"] == "/huge" else b""
    start_response("200 OK", [("Connection", "close")] if environ["QUERY_STRING"] == "last" else [])
    return [huge or json.dumps(seen).encode()]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close" if scope["scheme"] != "wss" else "websocket.accept"})
        await send({"type": "websocket.send", "text": scope["scheme"]})
        await receive()
        await receive()
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    seen = {"scheme": scope["scheme"], "client": scope["client"][0], "digest": digest(body)}
    last = [(b"connection", b"close")] if scope["query_string"] == b"last" else []
    await send({"type": "http.response.start", "status": 200, "headers": last})
    await send(
        {"type": "http.response.body", "body": b"x" * HUGE if scope["path"] == "/huge" else json.dumps(seen).encode()}
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


Start = Callable[..., Any]


@pytest.fixture(params=["wsgi", "wsgi in threads", "asgi"])
def start(request: pytest.FixtureRequest, certificate: Certificate) -> Start:
    """`serving` HTTPS, of each interface."""

    def started(**settings: Any) -> Any:
        if request.param == "asgi":
            return serving(asgi, interface=Interface.ASGI, tls=certificate.server(), **settings)
        return serving(wsgi, threads=2 * (request.param != "wsgi"), tls=certificate.server(), **settings)

    return started


def secure(server: Serving, certificate: Certificate, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    sock = socket.create_connection(server.address[:2], timeout=PATIENCE)
    return (context or certificate.client()).wrap_socket(sock, server_hostname=NAME, suppress_ragged_eofs=False)


@contextmanager
def client(server: Serving, certificate: Certificate) -> Iterator[Client]:
    with Client(secure(server, certificate)) as connected:
        yield connected


class Conversation:
    """A client of TLS whose every byte on the wire the test decides on."""

    def __init__(self, sock: socket.socket, certificate: Certificate) -> None:
        self.socket = sock
        self._incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = certificate.client().wrap_bio(self._incoming, self.outgoing, server_hostname=NAME)
        self.wire = b""
        """What the server has sent."""

    def step(self, call: Callable[[], Any]) -> Any:
        """Do `call`, which may need more of the server's bytes; the client's go out first, one at a time."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                assert data, "the server closed"
                self.wire += data
                self._incoming.write(data)
            else:
                self.flush()
                return result

    def flush(self) -> None:
        for byte in self.outgoing.read():
            self.socket.sendall(bytes([byte]))


def test_a_request_is_answered_as_over_plain_http(start: Start, certificate: Certificate) -> None:
    with start() as server, client(server, certificate) as one:
        for _ in range(3):
            assert json.loads(one.get(method="POST", body=b"abc").body) == {
                "scheme": "https",
                "client": "127.0.0.1",
                "digest": digest(b"abc"),
            }
        assert isinstance(one.socket, ssl.SSLSocket)
        assert one.socket.selected_alpn_protocol() == "http/1.1"
        assert one.socket.version() == "TLSv1.3"


def test_a_client_that_offers_http_2_alone_is_told_in_http_1(start: Start, certificate: Certificate) -> None:
    """RFC 7301 ends the handshake, which Python's ssl cannot: nothing is agreed on, and its preface is refused."""
    context = certificate.client()
    context.set_alpn_protocols(["h2"])
    with start() as server, Client(secure(server, certificate, context)) as one:
        assert isinstance(one.socket, ssl.SSLSocket)
        assert one.socket.selected_alpn_protocol() is None
        one.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert one.answer().status == 505


def test_large_bodies_pass_both_ways(start: Start, certificate: Certificate) -> None:
    body = bytes(range(256)) * 12_000
    with start() as server, client(server, certificate) as one:
        assert json.loads(one.get(method="POST", body=body).body)["digest"] == digest(body)
        assert one.get("/huge").body == b"x" * HUGE
        assert one.get().status == 200


def test_pipelined_requests_are_answered_in_order(start: Start, certificate: Certificate) -> None:
    with start() as server, client(server, certificate) as one:
        one.send(b"".join(request(method="POST", body=bytes([n])) for n in range(40)))
        assert [json.loads(one.answer().body)["digest"] for _ in range(40)] == [digest(bytes([n])) for n in range(40)]


def test_a_handshake_may_come_byte_by_byte(start: Start, certificate: Certificate) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request())
        assert conversation.step(lambda: conversation.tls.read(17)) == b"HTTP/1.1 200 OK\r\n"


def test_the_last_response_ends_with_a_close_notify_and_lets_the_client_finish(
    start: Start, certificate: Certificate
) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request("/huge?last"))
        answer = b""
        while piece := conversation.step(lambda: conversation.tls.read(65536)):  # empty: the close_notify
            answer += piece
            conversation.socket.sendall(b"")
        assert answer.endswith(b"x" * 1000)
        assert len(answer.partition(b"\r\n\r\n")[2]) == HUGE
        assert raw.socket.recv(10) == b""


def test_a_refusal_reaches_a_client_that_goes_on_sending(start: Start, certificate: Certificate) -> None:
    with start(limits={"body": 10}) as server, client(server, certificate) as one:
        one.send(request("/", "Content-Length: 10000000", method="POST"))
        one.send(b"x" * 1_000_000)
        assert one.answer().status == 413


def test_a_client_that_says_goodbye_after_its_request_is_answered(start: Start, certificate: Certificate) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request("/huge"))
        with pytest.raises(ssl.SSLWantReadError):
            conversation.tls.unwrap()
        raw.send(conversation.outgoing.read())
        raw.socket.shutdown(socket.SHUT_WR)
        # Its own side is closed, and OpenSSL reads no data after that: the bytes on the wire tell.
        assert len(raw.rest()) > HUGE


def test_pipelined_requests_with_a_goodbye_are_all_answered(start: Start, certificate: Certificate) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request() * 40)
        with pytest.raises(ssl.SSLWantReadError):
            conversation.tls.unwrap()
        raw.send(conversation.outgoing.read())
        raw.rest()
        wait_until(lambda: not server.engine.load)
        assert server.ledger.done == [200] * 40


def test_without_the_last_byte_of_a_request_a_goodbye_ends_it(start: Start, certificate: Certificate) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request()[:-1])
        with pytest.raises(ssl.SSLWantReadError):
            conversation.tls.unwrap()
        raw.send(conversation.outgoing.read())
        raw.rest()
        wait_until(lambda: not server.ledger.connections)
        assert server.ledger.done == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "X"])
def test_plain_http_is_told_so_in_plain_http(start: Start, method: str) -> None:
    with start() as server, server.client() as one:
        answer = one.get(method=method)
        assert answer.status == 400
        assert b"https://" in answer.body
        assert (server.ledger.done, server.ledger.refused) == ([], {"tls": 1})


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000, b"SSH-2.0-x\r\n" * 3])
def test_garbage_ends_the_connection_and_nothing_else(start: Start, garbage: bytes, certificate: Certificate) -> None:
    with start() as server:
        with server.client() as one:
            one.send(garbage)
            one.rest()
        assert any("handshake" in line for line in server.ledger.details)
        with client(server, certificate) as one:
            assert one.get().status == 200


def test_a_record_that_was_tampered_with_ends_the_connection(start: Start, certificate: Certificate) -> None:
    with start() as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request())
        record = bytearray(conversation.outgoing.read())
        record[-1] ^= 1
        raw.send(bytes(record))
        try:
            raw.rest()
        except ConnectionResetError:
            pass
        wait_until(lambda: not server.ledger.connections)
        assert server.ledger.done == []


@pytest.mark.parametrize("sent", [b"", b"\x16"])
def test_a_handshake_has_as_long_as_a_head(start: Start, sent: bytes) -> None:
    with start(timeouts={"header": 0.2}) as server, server.client() as one:
        one.send(sent)
        assert one.rest() == b""
        assert server.ledger.timeouts.total() == 1


def test_only_what_is_safe_is_spoken(certificate: Certificate) -> None:
    with serving(wsgi, tls=certificate.server(TlsVersion.TLS_1_3)) as server:
        old = certificate.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            secure(server, certificate, old)
    with serving(wsgi, tls=certificate.server()) as server:
        with secure(server, certificate, old) as sock:
            name, version, _ = sock.cipher() or ("", "", 0)
            assert version == "TLSv1.2"
            assert name.startswith("ECDHE-")
            assert "GCM" in name or "CHACHA20" in name
        weak = certificate.client()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES256-SHA256:AES128-SHA:ECDHE-ECDSA-AES128-SHA256")
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            secure(server, certificate, weak)


def test_a_session_is_resumed(certificate: Certificate) -> None:
    with serving(wsgi, tls=certificate.server()) as server:
        context = certificate.client()
        with Client(secure(server, certificate, context)) as one:
            assert one.get().status == 200
            assert isinstance(one.socket, ssl.SSLSocket)
            session = one.socket.session
        sock = socket.create_connection(server.address[:2], timeout=PATIENCE)
        with context.wrap_socket(sock, server_hostname=NAME, session=session) as again:
            assert again.session_reused


class Rekeying(Conversation):
    """A client that asks for new keys, which Python itself cannot: `struct PySSLSocket` has the SSL* after its head
    and one pointer, and that is the same OpenSSL."""

    def ask(self, times: int) -> bytes:
        """What goes over the wire."""
        openssl = ctypes.CDLL("libssl.so.3")
        connection = ctypes.c_void_p.from_address(id(self.tls._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p))  # type: ignore[attr-defined]
        for _ in range(times):
            assert openssl.SSL_key_update(connection, 1) == 1
            assert openssl.SSL_do_handshake(connection) == 1
        return self.outgoing.read()


@contextmanager
def rekeying(server: Serving, certificate: Certificate) -> Iterator[Rekeying]:
    """With so little room on the way back that it is full after a few answers."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.on_loop(lambda: server.engine.adopt(theirs, scheme="https"))
    with ours:
        conversation = Rekeying(ours, certificate)
        conversation.step(conversation.tls.do_handshake)
        yield conversation


def test_who_asks_for_keys_and_never_reads_is_dropped(certificate: Certificate) -> None:
    with serving(wsgi, tls=certificate.server()) as server, rekeying(server, certificate) as client:
        for _ in range(100):
            try:
                client.socket.sendall(client.ask(100))
            except OSError:
                break
        wait_until(lambda: not server.engine.load)


def test_who_asks_for_keys_may_be_idle_no_longer(certificate: Certificate) -> None:
    with (
        serving(wsgi, tls=certificate.server(), timeouts={"keepalive": 0.5}) as server,
        rekeying(server, certificate) as client,
    ):
        [connection] = server.engine.connections
        client.socket.sendall(client.ask(300))
        wait_until(lambda: not connection.writable)
        while client.socket.recv(65536):
            pass
        assert server.ledger.done == []


def test_the_proxy_protocol_comes_before_the_handshake(start: Start, certificate: Certificate) -> None:
    header = (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 443)
    )
    with start(proxy_protocol=True, trusted_proxies=("127.0.0.1",)) as server:
        sock = socket.create_connection(server.address[:2], timeout=PATIENCE)
        sock.sendall(header)
        with Client(certificate.client().wrap_socket(sock, server_hostname=NAME)) as one:
            assert json.loads(one.get().body) | {"digest": ""} == {
                "scheme": "https",
                "client": "192.0.2.1",
                "digest": "",
            }


def test_a_header_and_a_hello_in_one_piece(certificate: Certificate) -> None:
    behind: Any = {"proxy_protocol": True, "trusted_proxies": ("127.0.0.1",)}
    with serving(wsgi, tls=certificate.server(), **behind) as server, server.client() as raw:
        conversation = Conversation(raw.socket, certificate)
        with pytest.raises(ssl.SSLWantReadError):
            conversation.tls.do_handshake()
        raw.send(b"PROXY UNKNOWN\r\n" + conversation.outgoing.read())
        conversation.step(conversation.tls.do_handshake)
        conversation.tls.write(request())
        assert conversation.step(lambda: conversation.tls.read(17)) == b"HTTP/1.1 200 OK\r\n"


def test_who_is_sent_away_learns_it_before_the_handshake(start: Start) -> None:
    with start() as server:
        ours, theirs = socket.socketpair()
        server.on_loop(lambda: server.engine.shed(theirs, "https"))
        ours.settimeout(PATIENCE)
        with ours:
            assert ours.recv(1) == b""


def test_a_websocket_over_tls_is_wss(certificate: Certificate) -> None:
    from websockets.sync.client import connect

    with serving(asgi, interface=Interface.ASGI, tls=certificate.server()) as server:
        host, port = server.address[:2]
        with connect(f"wss://{host}:{port}/", ssl=certificate.client()) as websocket:
            assert websocket.recv(PATIENCE) == "wss"


# ---- drains


def test_before_its_first_byte_a_connection_moves_and_afterwards_it_is_bound(
    start: Start, certificate: Certificate
) -> None:
    moved: list[tuple[Connection, CarriedState]] = []

    with (
        start(on_movable=lambda each: moved.append((each, each.detach()))) as server,
        server.client() as silent,
        client(server, certificate) as used,
    ):
        assert used.get().status == 200
        wait_until(lambda: server.ledger.connections == 2)
        server.on_loop(server.engine.retirement.hand_over)
        [(connection, carried)] = moved
        assert carried.scheme == "https"
        answer = used.get()
        assert answer.fields["connection"] == "close"
        assert used.rest() == b""
        # Taken back, it is served here as if nothing had been.
        server.on_loop(server.engine.retirement.take_back)
        server.on_loop(connection.resume)
        with Client(certificate.client().wrap_socket(silent.socket, server_hostname=NAME)) as one:
            assert one.get().status == 200


def test_a_connection_that_can_not_move_ends_when_it_has_been_idle(start: Start, certificate: Certificate) -> None:
    with start(on_movable=lambda _: None) as server, client(server, certificate) as idle:
        assert idle.get().status == 200
        server.wait_for_rest()
        server.on_loop(server.engine.retirement.hand_over)
        server.on_loop(server.engine.retirement.close_idle)
        assert idle.rest() == b""  # with a close_notify: without one, reading raises


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(start: Start, certificate: Certificate) -> None:
    with start(on_movable=lambda _: None) as server, server.client() as raw:
        wait_until(lambda: server.ledger.connections)
        server.on_loop(server.engine.retirement.hand_over)
        server.on_loop(server.engine.retirement.close_idle)
        conversation = Conversation(raw.socket, certificate)

        def finish_and_ask() -> None:
            conversation.tls.do_handshake()
            conversation.tls.write(request())
            raw.send(conversation.outgoing.read())

        conversation.step(finish_and_ask)
        assert conversation.step(lambda: conversation.tls.read(17)) == b"HTTP/1.1 200 OK\r\n"


def test_one_that_has_just_been_answered_or_has_begun_to_ask_is_not_idle(
    start: Start, certificate: Certificate
) -> None:
    with start(on_movable=lambda _: None) as server, client(server, certificate) as one:
        began = time.monotonic()
        server.on_loop(server.engine.retirement.hand_over)
        server.on_loop(server.engine.retirement.take_back)
        assert one.get().status == 200
        server.on_loop(server.engine.retirement.hand_over)
        server.on_loop(lambda: server.engine.retirement.close_idle(began - 1))
        one.send(request()[:10])
        wait_until(lambda: [each.stage for each in server.engine.connections] == [Stage.HEAD])
        server.on_loop(lambda: server.engine.retirement.close_idle(time.monotonic()))
        one.send(request()[10:])
        answer = one.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert one.rest() == b""


def test_the_master_cannot_move_a_connection(certificate: Certificate) -> None:
    with serving(wsgi, tls=certificate.server()) as server, client(server, certificate) as connected:
        connected.get("/")
        server.wait_for_rest()
        assert server.on_loop(server.movable) == []
