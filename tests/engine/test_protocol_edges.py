"""Edges of RFC 9110, RFC 9112 and ASGI that the test suites of other servers look at."""

from collections.abc import Sequence
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.serving import Serving, request, serving


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body: bytes = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"got " + body]


def answered(server: Serving, data: bytes) -> tuple[int, bytes]:
    """The status and what follows the head, of a connection that ends after the answer."""
    with server.client() as client:
        client.send(data)
        head, _, body = client.rest().partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 1"):
            head, _, body = body.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def upload(*fields: str, body: str = "abc") -> bytes:
    head = "\r\n".join(["POST / HTTP/1.1", "Host: x", "Connection: close", *fields])
    return f"{head}\r\n\r\n{body}".encode("latin-1")


# ---- expectations (RFC 9110 section 10.1.1; lists: section 5.6.1.2)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Expect: 100-continue"], 200),
        (["Expect: 100-continue", "Expect: 100-Continue"], 200),
        (["Expect: , 100-continue,,"], 200),
        (["Expect:"], 200),
        (["Expect: ,"], 200),
        (["Expect: 100-continue, something"], 417),
        (["Expect: something"], 417),
    ],
)
def test_expectations_are_a_list(fields: list[str], status: int) -> None:
    with serving(echo) as server:
        assert answered(server, upload("Content-Length: 3", *fields))[0] == status


@pytest.mark.parametrize(("field", "invited"), [("Expect: 100-continue, 100-continue", True), ("Expect: ,", False)])
def test_who_expects_it_is_invited_once(field: str, invited: bool) -> None:
    with serving(echo) as server, server.client() as client:
        client.send(upload("Content-Length: 3", field, body=""))
        if invited:
            assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.rest().endswith(b"got abc")


# ---- HEAD (RFC 9110 section 9.3.2)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\n\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"HEAD / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"\r\nHEAD /#x HTTP/1.1\r\n\r\n", 400),
        (b"HEAD /" + 10000 * b"x" + b" HTTP/1.1\r\n", 414),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nX: " + 100_000 * b"x", 431),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
def test_a_refusal_of_a_head_request_has_no_body(data: bytes, status: int) -> None:
    with serving(echo) as server:
        assert answered(server, data) == (status, b"")
        assert answered(server, data.replace(b"HEAD", b"GET", 1))[1] != b""


@pytest.mark.parametrize(
    "data", [b"HEAD / HTTP/1.1\r\nHost", b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"]
)
def test_nor_has_a_408(data: bytes) -> None:
    with serving(echo, timeouts={"header": 0.1, "body": 0.1}) as server:
        assert answered(server, data) == (408, b"")


# ---- versions (RFC 9110 section 2.5)


@pytest.mark.parametrize("minor", range(2, 10))
def test_a_later_minor_version_is_processed_as_1_1(minor: int) -> None:
    with serving(echo) as server, server.client() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n" % minor)
            assert client.answer().body == b"got "


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "2.1"])
def test_another_major_version_is_not(version: str) -> None:
    with serving(echo) as server:
        assert answered(server, f"GET / HTTP/{version}\r\nHost: x\r\n\r\n".encode())[0] == 505


# ---- targets (RFC 9112 section 3.2)


@pytest.mark.parametrize("target", ["/\u00e4", "/?q=\u00ff", "http://x/\u0080"])
def test_a_raw_byte_above_ascii_in_a_target_is_refused(target: str) -> None:
    with serving(echo) as server:
        assert answered(server, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))[0] == 400


# ---- chunks (RFC 9112 section 7.1)


@pytest.mark.parametrize("extension", ["", ";a", ";a=b", ';a="b;\\"c"', "; a = b ; c", ';a;b=1;c=""', ';a="\u00e4"'])
def test_a_well_formed_chunk_extension_is_ignored(extension: str) -> None:
    with serving(echo) as server:
        data = upload("Transfer-Encoding: chunked", body=f"3{extension}\r\nabc\r\n0{extension}\r\n\r\n")
        assert answered(server, data)[0] == 200


@pytest.mark.parametrize(
    "extension",
    [";", ';a="', ";=b", ";a=", ";a b", ';a="b"c', ";a;", " a", " ;a", ";a=b c", ";\u00e4", ";a\r", ';a="\\'],
)
def test_a_malformed_one_is_refused(extension: str) -> None:
    with serving(echo) as server:
        data = upload("Transfer-Encoding: chunked", body=f"3{extension}\r\nabc\r\n0\r\n\r\n")
        assert answered(server, data)[0] == 400


@pytest.mark.parametrize(("name", "status"), [("Content-Type", 200), ("Cookie", 200), ("Host", 400), ("X", 200)])
def test_trailers_are_dropped_and_those_that_frame_or_route_are_refused(name: str, status: int) -> None:
    with serving(echo) as server:
        data = upload("Transfer-Encoding: chunked", body=f"3\r\nabc\r\n0\r\n{name}: x\r\n\r\n")
        assert answered(server, data)[0] == status


# ---- fields (RFC 9112 section 2.2)


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nHost: x\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: y\nZ: z", b"GET / HTTP/1.1\r\n\n"]
)
def test_a_bare_line_feed_in_the_fields_is_refused_at_once(head: bytes) -> None:
    with serving(echo, timeouts={"header": 1000.0}) as server:
        assert answered(server, head)[0] == 400


def test_several_content_types_are_refused() -> None:
    with serving(echo) as server:
        fields = ["Content-Length: 3", "Content-Type: text/plain", "Content-Type: text/plain"]
        assert answered(server, upload(*fields))[0] == 400


# ---- 426 (RFC 9110 section 15.5.22)


@pytest.mark.parametrize("kept", [True, False])
def test_an_applications_426_names_the_protocol(kept: bool) -> None:
    def application(_: Any, start_response: Any) -> list[bytes]:
        start_response("426 Upgrade Required", [("Upgrade", "h2c"), ("Content-Length", "0")])
        return []

    with serving(application) as server, server.client() as client:
        client.send(request("/", *([] if kept else ["Connection: close"])))
        fields = client.answer().fields
        assert fields["upgrade"] == "h2c"
        assert fields["connection"].lower() == ("upgrade" if kept else "upgrade, close")


def test_so_does_the_servers_own() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12"))
        answer = client.answer()
        assert (answer.status, answer.fields["upgrade"]) == (426, "websocket")
        assert answer.fields["connection"].lower() == "upgrade, close"


# ---- ASGI


def asgi(server_messages: Sequence[dict[str, Any]]) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in server_messages:
            await send(message)

    return application


START = {"type": "http.response.start", "status": 200, "headers": []}
HINT = {"type": "http.response.early_hint", "links": [b"</a>"]}
END = {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize("messages", [[HINT, START, END], [START, HINT, END], [HINT, START, HINT, END]])
def test_early_hints_may_come_until_the_response_begins(messages: list[dict[str, Any]]) -> None:
    with serving(asgi(messages), interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Connection: close"))
        got = client.rest()
        assert got.count(b"HTTP/1.1 103") == messages.count(HINT)
        assert got.endswith(b"\r\n\r\nx")


def test_not_afterwards() -> None:
    begun = {**END, "more_body": True}
    with serving(asgi([START, begun, HINT, END]), interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/"))
        assert b"103" not in client.rest()
        server.ledger.errors.clear()


@pytest.mark.parametrize("wanted", ["trailers", "gzip, Trailers;q=1", ""])
def test_trailers_go_to_who_can_read_them(wanted: str) -> None:
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    start = {**START, "trailers": True, "headers": [(b"trailer", b"x-sum")]}
    with serving(asgi([start, END, trailers]), interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Connection: close", f"TE: {wanted}"))
        got = client.rest()
        assert (b"x-sum: 1\r\n" in got) is bool(wanted)
        assert b"trailer: x-sum\r\n" in got
        assert b"\r\nx\r\n0\r\n" in got or got.endswith(b"\r\n\r\nx")


def test_receive_after_a_complete_response_says_that_it_is_over() -> None:
    received: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send(START)
        await send(END)
        received.append((await receive())["type"])

    with serving(application, interface=Interface.ASGI) as server, server.client() as client:
        client.send(request("/", "Content-Length: 3", method="POST") + b"abc")
        assert client.answer().body == b"x"
        client.send(request("/"))
        client.answer()
    assert received == ["http.disconnect", "http.disconnect"]


def test_a_denied_websocket_closes_its_connection() -> None:
    denial: list[dict[str, Any]] = [
        {**START, "type": "websocket.http.response.start", "status": 404},
        {**END, "type": "websocket.http.response.body"},
    ]
    with serving(asgi(denial), interface=Interface.ASGI) as server, server.client() as client:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        client.send(request("/", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key))
        answer = client.answer()
        assert (answer.status, answer.fields["connection"]) == (404, "close")
        assert client.rest() == b""
