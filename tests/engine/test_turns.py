"""Who sends bytes that cost much to decode leaves others their turn, and who sends bytes that only cost is closed."""

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.connections.transports.tls import TURN_RECORDS, TlsLayer
from clusterd.http.connections.transports.turns import Turns
from clusterd.http.messages.allowance import BURST
from clusterd.http.settings import Interface
from tests.support.certificates import NAME, Certificate, make_certificate
from tests.support.frames import CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, frame
from tests.support.serving import PATIENCE, Client, Serving, request, serving

MANY = 3000
"""Pieces that take several turns, and are allowed."""

SMALL_CHUNK = b"1\r\nx\r\n"


class Application:
    """Notes the order in which requests and messages come to it."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.order.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    async def asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                self.order.append(message["text"][-3:])
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.order.append(scope["path"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})


KINDS = {"wsgi": 0, "wsgi in threads": 2, "asgi": 0}


@pytest.fixture(params=KINDS)
def serve(request: pytest.FixtureRequest) -> Callable[[Application], Any]:
    def start(application: Application) -> Any:
        if request.param == "asgi":
            return serving(application.asgi, interface=Interface.ASGI)
        return serving(application.wsgi, threads=KINDS[request.param])

    return start


def sent_at_once(server: Serving, *sent: tuple[Any, bytes]) -> None:
    """Have the loop find the bytes of all clients at the same time, those of the first client first."""
    gate = threading.Event()
    server.loop.call_soon_threadsafe(gate.wait, PATIENCE)
    for client, data in sent:
        client.send(data)
    gate.set()


def upload(chunks: bytes) -> bytes:
    return request("/small", "Transfer-Encoding: chunked", method="POST") + chunks + b"0\r\n\r\n"


def test_small_chunks_leave_others_their_turn(serve: Callable[[Application], Any]) -> None:
    application = Application()
    with serve(application) as server, server.client() as hostile, server.client() as normal:
        assert normal.get().status == 200
        assert hostile.get().status == 200
        sent_at_once(server, (hostile, upload(SMALL_CHUNK * MANY)), (normal, request("/normal")))
        assert normal.answer().status == 200
        answer = hostile.answer()
        assert (answer.status, answer.body) == (200, b"x" * MANY)
        assert hostile.get().status == 200
    assert application.order == ["/", "/", "/normal", "/small", "/"]


@pytest.mark.parametrize("flood", [frame(PING), frame(PONG), frame(CONTINUATION, b"x", fin=False)], ids=range(3))
def test_small_frames_leave_others_their_turn(flood: bytes) -> None:
    application = Application()
    with (
        serving(application.asgi, interface=Interface.ASGI) as server,
        Raw(server) as hostile,
        server.client() as normal,
    ):
        assert normal.get().status == 200
        begin = frame(TEXT, b"x", fin=False)
        sent_at_once(
            server,
            (hostile.client, begin + flood * MANY + frame(CONTINUATION, b"end")),
            (normal, request("/normal")),
        )
        assert normal.answer().status == 200
        hostile.client.send(frame(CLOSE))
        while hostile.frame()[0] != CLOSE:
            pass
    assert application.order == ["/", "/normal", "end"]


class Records:
    """A TLS client that sends each byte in a record of its own."""

    def __init__(self, client: Client, certificate: Certificate) -> None:
        self._socket = client.socket
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = certificate.client().wrap_bio(self._received, self._encrypted, server_hostname=NAME)
        self._step(self._tls.do_handshake)

    def _step(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._socket.sendall(self._encrypted.read())
                self._received.write(self._socket.recv(65536))
            finally:
                self._socket.sendall(self._encrypted.read())

    def send(self, data: bytes) -> None:
        for at in range(len(data)):
            self._tls.write(data[at : at + 1])
        self._socket.sendall(self._encrypted.read())

    def read_until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            got += self._step(lambda: self._tls.read(65536))
        return got


class Socket:
    """Stands in for a transport of the loop, and for the connection above TLS."""

    def __init__(self) -> None:
        self.is_reading = True
        self.received = b""
        self.sent = b""

    def set_protocol(self, protocol: object) -> None: ...

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def data_received(self, data: bytes) -> None:
        self.received += data


def test_small_tls_records_are_decrypted_in_turns_and_nothing_is_read_meanwhile(tmp_path: Path) -> None:
    certificate, below, above, rounds = make_certificate(tmp_path), Socket(), Socket(), list[Callable[[], object]]()
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificate.client().wrap_bio(arriving, leaving, server_hostname=NAME)
    layer = TlsLayer(below, certificate.server(), above, lambda: None, print, Turns(rounds.append))  # type: ignore[arg-type]
    while not layer.is_open:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        layer.data_received(leaving.read())
        arriving.write(below.sent)
        below.sent = b""
    for _ in range(3 * TURN_RECORDS):
        client.write(b"x")
    layer.data_received(leaving.read())
    assert (len(above.received), below.is_reading, layer.held > 0) == (TURN_RECORDS, False, True)
    rounds.pop(0)()
    assert (len(above.received), below.is_reading) == (2 * TURN_RECORDS, False)
    layer.pause_reading()
    rounds.pop(0)()
    assert (len(above.received), rounds) == (2 * TURN_RECORDS, [])
    layer.resume_reading()
    rounds.pop(0)()
    assert (len(above.received), below.is_reading, layer.held, rounds) == (3 * TURN_RECORDS, True, 0, [])


@pytest.mark.parametrize("kind", KINDS)
def test_small_tls_records_are_answered_beside_others(kind: str, tmp_path: Path) -> None:
    application, certificate = Application(), make_certificate(tmp_path)
    interface = Interface.ASGI if kind == "asgi" else Interface.WSGI
    called = application.asgi if kind == "asgi" else application.wsgi
    with (
        serving(called, threads=KINDS[kind], interface=interface, tls=certificate.server()) as server,
        server.client() as hostile,
        server.client() as normal,
    ):
        records, other = Records(hostile, certificate), Records(normal, certificate)
        for client in (other, records):
            client.send(request())
            client.read_until(b"0\r\n\r\n")
        upload = request("/small", f"Content-Length: {MANY}", method="POST") + b"x" * MANY
        sent_at_once(server, (records, upload), (other, request("/normal")))
        assert b"200 OK" in other.read_until(b"\r\n\r\n")
        assert records.read_until(b"x" * MANY).startswith(b"HTTP/1.1 200 OK\r\n")
        records.send(request("/again"))
        assert records.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert sorted(application.order) == ["/", "/", "/again", "/normal", "/small"]


def test_who_sends_small_chunks_without_end_is_refused(serve: Callable[[Application], Any]) -> None:
    with serve(Application()) as server, server.client() as hostile:
        hostile.send(upload(SMALL_CHUNK * (BURST + 10_000)))
        answer = hostile.answer()
        assert (answer.status, answer.fields["connection"]) == (400, "close")
        assert b"too many small chunks" in answer.body


def test_a_body_of_large_chunks_may_have_as_many(serve: Callable[[Application], Any]) -> None:
    with serve(Application()) as server, server.client() as client:
        client.send(upload(b"10\r\n0123456789abcdef\r\n" * (BURST + 10_000)))
        assert len(client.answer().body) == 16 * (BURST + 10_000)


@pytest.mark.parametrize("flood", [frame(PING), frame(PONG), frame(CONTINUATION, b"x", fin=False)], ids=range(3))
def test_who_sends_small_frames_without_end_is_closed(flood: bytes) -> None:
    with serving(Application().asgi, interface=Interface.ASGI) as server, Raw(server) as hostile:
        reader = threading.Thread(target=hostile.client.send, args=[frame(TEXT, b"x", fin=False) + flood * 40_000])
        reader.start()
        while (got := hostile.frame())[0] == PONG:
            pass
        assert got == (CLOSE, (1008).to_bytes(2, "big") + b"too many control frames or small fragments")
        hostile.client.socket.settimeout(PATIENCE)
        reader.join(PATIENCE)


def test_small_messages_are_no_small_frames() -> None:
    application = Application()
    with serving(application.asgi, interface=Interface.ASGI) as server, Raw(server) as client:
        client.client.send(frame(TEXT, b"x") * (BURST + 10_000) + frame(TEXT, b"end") + frame(CLOSE))
        assert client.frame()[0] == CLOSE
    assert len(application.order) == BURST + 10_001
