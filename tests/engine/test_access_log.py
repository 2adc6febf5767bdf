"""What the access log says of requests answered, refused, cut and slow; and the identifiers of requests."""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusterd.http.settings import AccessLog, Interface, RequestIds
from clusterd.log import Level
from clusterd.log.current_request import REQUEST_ID
from tests.support.serving import Serving, request, serving, wait_until

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
BOTH = pytest.mark.parametrize("interface", [Interface.WSGI, Interface.ASGI])
RUNNERS = pytest.mark.parametrize("threads", [0, 2])


def wsgi(environ: Environ, start_response: StartResponse) -> list[bytes]:
    path = environ["PATH_INFO"]
    if path == "/fails":
        raise LookupError("on purpose")
    status = "404 Not Found" if path == "/missing" else "200 OK"
    body = str(environ.get("clusterd.request_id")).encode()
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], _: Any, send: Any) -> None:
    if scope["path"] == "/fails":
        raise LookupError("on purpose")
    status = 404 if scope["path"] == "/missing" else 200
    body = str(scope["state"].get("request_id")).encode()
    await send({"type": "http.response.start", "status": status, "headers": [(b"Content-Length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def serve(interface: Interface, **settings: Any) -> Any:
    return serving(wsgi if interface is Interface.WSGI else asgi, interface=interface, **settings)


def logged(server: Serving, count: int = 1) -> list[dict[str, object]]:
    wait_until(lambda: len(server.ledger.requests) >= count)
    assert len(server.ledger.requests) == count
    return server.ledger.requests


def ask(server: Serving, *targets: str) -> None:
    for target in targets:
        with server.client() as client:
            client.get(target)
    server.wait_for_rest()


@BOTH
@pytest.mark.parametrize(
    ("mode", "targets"),
    [
        (AccessLog.OFF, []),
        (AccessLog.ERRORS, ["/fails"]),
        (AccessLog.SLOW, ["/fails"]),
        (AccessLog.ALL, ["/", "/missing", "/fails"]),
    ],
)
def test_which_requests_are_logged(interface: Interface, mode: AccessLog, targets: list[str]) -> None:
    with serve(interface, access_log=mode) as server:
        ask(server, "/", "/missing", "/fails")
        assert [each["target"] for each in logged(server, len(targets))] == targets


@BOTH
def test_the_mode_changes_also_for_connections_that_are_open(interface: Interface) -> None:
    with serve(interface, access_log=AccessLog.OFF) as server, server.client() as client:
        for mode in (AccessLog.OFF, AccessLog.ALL, AccessLog.ERRORS, AccessLog.ALL):
            server.on_loop(lambda mode=mode: server.engine.change_access_log(mode))
            client.get(f"/{mode}")
        assert [each["target"] for each in logged(server, 2)] == ["/all", "/all"]
        assert [each["bytes"] for each in server.ledger.requests] == [4, 4]


@RUNNERS
def test_a_record_has_its_fields(threads: int) -> None:
    with serve(Interface.WSGI, threads=threads, access_log=AccessLog.ALL) as server:
        ask(server, "/?item=1", "/fails")
        first, second = logged(server, 2)
    assert (first["level"], first["message"], first["alike"]) == (Level.INFO, "request", "")
    assert (first["method"], first["target"], first["status"], first["bytes"]) == ("GET", "/?item=1", 200, 4)
    assert first["peer"] == "127.0.0.1"
    assert isinstance(first["duration"], float) and 0 < first["duration"] < 60
    assert isinstance(first["queue"], float) and 0 <= first["queue"] < 60
    assert (first["reason"], first["request_id"]) == (None, None)
    assert (second["level"], second["status"]) == (Level.ERROR, 500)


def test_slow_requests_are_logged() -> None:
    def sleeps(_: Environ, start_response: StartResponse) -> list[bytes]:
        threading.Event().wait(0.05)
        start_response("200 OK", [])
        return [b""]

    with serving(sleeps, threads=1, access_log=AccessLog.SLOW, slow=0.05) as server:
        ask(server, "/slow")
        assert logged(server)[0]["target"] == "/slow"


def test_a_second_is_slow_if_nothing_else_is() -> None:
    with serving(wsgi, access_log=AccessLog.SLOW, slow=None) as server:
        assert server.engine.context.access.seconds == 1.0


def test_a_format_makes_the_line() -> None:
    written = "{peer} {method} {target} {status} {bytes} {worker}"
    with serve(Interface.WSGI, access_log=AccessLog.ALL, access_format=written, worker="3") as server:
        ask(server, '/a"b')
        assert logged(server)[0]["message"] == r"127.0.0.1 GET /a\x22b 200 4 3"
    with serve(Interface.WSGI, access_log=AccessLog.ALL, access_format="json") as server:
        ask(server, "/")
        assert json.loads(str(logged(server)[0]["message"]))["status"] == 200


@pytest.mark.parametrize(
    ("data", "status", "target", "reason"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", 400, "/a", "no Host"),
        (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", 400, "/a", "malformed header field"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "\x16\x03\x01\x02\x00\x01", "malformed request line"),
        (
            b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 9000),
            414,
            f"GET /{'a' * 296}",
            "request line above 8192 bytes",
        ),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413, "/a", "body above"),
    ],
)
def test_a_refusal_says_why_and_of_what(data: bytes, status: int, target: str, reason: str) -> None:
    with serve(Interface.WSGI, access_log=AccessLog.ERRORS) as server, server.client() as client:
        client.send(data)
        assert client.answer().status == status
        [found] = logged(server)
    assert (found["status"], str(found["target"])[:301]) == (status, target)
    assert reason in str(found["reason"])
    assert found["level"] is Level.INFO
    assert found["alike"] == f"{status} {found['reason']}", "so that the log leaves out those that are too many"


def held(release: threading.Event) -> Callable[..., list[bytes]]:
    def application(_: Environ, start_response: StartResponse) -> list[bytes]:
        release.wait(20)
        start_response("200 OK", [])
        return [b""]

    return application


@pytest.mark.parametrize(
    ("limits", "timeouts", "reason"),
    [
        ({"queue": 0}, {}, "too many requests wait: limits.queue"),
        ({}, {"queue": 0.1}, "no thread was free within timeouts.queue"),
    ],
)
def test_a_503_says_which_limit_it_was(limits: dict[str, int], timeouts: dict[str, float], reason: str) -> None:
    release = threading.Event()
    with (
        serving(held(release), threads=1, limits=limits, timeouts=timeouts, access_log=AccessLog.ERRORS) as server,
        server.client() as first,
        server.client() as second,
    ):
        first.send(request("/first"))
        wait_until(lambda: server.on_loop(lambda: server.engine.in_flight) == 1)
        second.send(request("/second"))
        assert second.answer().status == 503
        [found] = logged(server)
        release.set()
        first.answer()
    assert (found["level"], found["target"], found["reason"]) == (Level.ERROR, "/second", reason)


def test_a_slow_request_that_no_thread_took_says_that_it_has_only_waited() -> None:
    release, timeouts = threading.Event(), {"queue": 0.3}
    with (
        serving(held(release), threads=1, timeouts=timeouts, access_log=AccessLog.OFF, slow=0.2) as server,
        server.client() as first,
        server.client() as second,
    ):
        first.send(request("/first"))
        wait_until(lambda: server.on_loop(lambda: server.engine.in_flight) == 1)
        second.send(request("/second?secret=1"))
        assert second.answer().status == 503
        wait_until(lambda: server.ledger.warnings)
        release.set()
        first.answer()
    message, fields = server.ledger.warnings[0]
    assert message == "a slow request has ended"
    assert (fields["target"], fields["status"]) == ("/second", 503)
    assert fields["reason"] == "no thread was free within timeouts.queue"
    assert (fields["queue"], fields["application"]) == (fields["seconds"], 0.0)


def big(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", str(64 << 20))])
    for _piece in range(64):
        yield bytes(1 << 20)


def endless(_: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [])
    while True:
        yield bytes(1 << 20)


@RUNNERS
def test_a_response_that_a_reset_cuts_says_what_was_sent(threads: int) -> None:
    with serving(big, threads=threads, access_log=AccessLog.ERRORS) as server:
        with server.client() as client:
            client.send(request("/big"))
            client.answer_head()
            client.reset()
        [found] = logged(server)
    assert (found["status"], found["target"], found["level"]) == (499, "/big", Level.INFO)
    match = re.fullmatch(
        r"the client has (reset|closed) the connection after (\d+) of 67108864 bytes", str(found["reason"])
    )
    assert match is not None
    assert int(match[2]) == found["bytes"]
    alike = f"499 the client has {match[1]} the connection"
    assert found["alike"] == alike, "however much was sent, so that the log leaves out those that are too many"


def test_what_this_process_cuts_is_no_cut_of_the_client() -> None:
    with serving(big, threads=1, access_log=AccessLog.ERRORS) as server, server.client() as client:
        client.send(request("/big"))
        client.answer_head()
        server.on_loop(server.engine.abort)
        wait_until(lambda: server.ledger.done == [499])
        assert server.ledger.requests == []


def test_leaving_a_stream_is_no_error() -> None:
    with serving(endless, threads=1, access_log=AccessLog.ERRORS) as server:
        with server.client() as client:
            client.send(request("/stream"))
            client.answer_head()
            client.reset()
        wait_until(lambda: server.ledger.done == [499])
        assert server.ledger.requests == []


def test_a_client_that_does_not_read_is_told_of() -> None:
    with (
        serving(endless, threads=1, access_log=AccessLog.ERRORS, timeouts={"write": 0.2}) as server,
        server.client() as client,
    ):
        client.send(request("/stream"))
        [found] = logged(server)
        assert found["reason"] == "the client has read nothing for timeouts.write"
        assert isinstance(found["bytes"], int) and found["bytes"] > 0


def test_a_file_is_counted(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(300_000))

    def sends(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file.open("rb"))

    with serving(sends, threads=1, access_log=AccessLog.ALL) as server:
        ask(server, "/file")
        assert logged(server)[0]["bytes"] == 300_000


def test_what_was_sent_while_nothing_was_logged_is_not_counted(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(300_000))

    def sends(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file.open("rb")) if environ["PATH_INFO"] == "/file" else [b"1234"]

    with serving(sends, threads=1, access_log=AccessLog.OFF) as server, server.client() as client:
        client.get("/file")
        server.wait_for_rest()
        server.on_loop(lambda: server.engine.change_access_log(AccessLog.ALL))
        client.get("/")
        assert logged(server)[0]["bytes"] == 4


def test_what_is_logged_again_begins_with_the_next_response() -> None:
    here, go_on = threading.Event(), threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        yield b"12345"
        if environ["PATH_INFO"] == "/first":
            here.set()
            go_on.wait(20)
        yield b"67890"

    with serving(application, threads=1, access_log=AccessLog.ALL) as server, server.client() as client:
        client.send(request("/first"))
        assert here.wait(20)
        server.on_loop(lambda: server.engine.change_access_log(AccessLog.OFF))
        go_on.set()
        assert client.answer().body == b"1234567890"
        server.wait_for_rest()
        server.on_loop(lambda: server.engine.change_access_log(AccessLog.ALL))
        client.get("/second")
        assert [(each["target"], each["bytes"]) for each in logged(server)] == [("/second", 10)]


@RUNNERS
def test_a_client_is_not_said_to_have_left_when_the_server_has_cut_it(threads: int) -> None:
    with serving(big, threads=threads, access_log=AccessLog.ALL) as server, server.client() as client:
        client.send(request("/big"))
        client.answer_head()
        server.on_loop(server.engine.abort)
        [found] = logged(server)
    assert (found["status"], found["reason"]) == (499, None)


@pytest.mark.parametrize(
    ("method", "fields", "reason"),
    [
        ("GET", [], None),
        ("GET", [(b"content-length", b"10")], "the client has closed the connection after 5 of 10 bytes"),
        ("HEAD", [(b"content-length", b"10")], None),
    ],
)
def test_a_client_that_leaves_when_it_has_read_enough_is_no_error(method: str, fields: Any, reason: str | None) -> None:
    async def begins(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    with serving(begins, interface=Interface.ASGI, access_log=AccessLog.ERRORS) as server:
        with server.client() as client:
            client.send(request("/", method=method))
            client.answer_head()
            client.socket.shutdown(socket.SHUT_WR)
            client.rest()
        wait_until(lambda: server.ledger.done)
        assert [each["reason"] for each in server.ledger.requests] == ([] if reason is None else [reason])


def test_early_hints_are_not_taken_for_the_response() -> None:
    async def hints(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"12345"})

    with serving(hints, interface=Interface.ASGI, access_log=AccessLog.ALL) as server, server.client() as client:
        client.send(request("/"))
        assert (client.answer_head().status, client.answer().status) == (103, 200)
        assert logged(server)[0]["bytes"] == 5


# ---- identifiers


@BOTH
@RUNNERS
def test_without_the_setting_nobody_gets_an_identifier(interface: Interface, threads: int) -> None:
    with serve(interface, threads=threads) as server, server.client() as client:
        answer = client.get("/", "X-Request-Id: mine")
        assert answer.body == b"None"
        assert "x-request-id" not in answer.fields


@BOTH
@RUNNERS
def test_the_application_and_the_log_get_the_same(interface: Interface, threads: int) -> None:
    with serve(interface, threads=threads, request_ids=RequestIds.ON, access_log=AccessLog.ALL) as server:
        with server.client() as client:
            bodies = [client.get("/").body.decode() for _ in range(3)]
            client.get("/fails")
        found = [each["request_id"] for each in logged(server, 4)]
        assert found[:3] == bodies
        assert len(set(found)) == 4
        wait_until(lambda: server.ledger.errors)
        assert server.ledger.errors[0].startswith("the application raised\n")
        assert server.ledger.error_fields[0] == {"method": "GET", "target": "/fails", "request_id": found[3]}


@BOTH
@RUNNERS
@pytest.mark.parametrize("target", ["/", "/fails", "/missing"])
def test_a_proxy_gives_it_and_gets_it_back(interface: Interface, threads: int, target: str) -> None:
    with (
        serve(interface, threads=threads, request_ids=RequestIds.RETURN, trusted_proxies=("127.0.0.1",)) as server,
        server.client() as client,
    ):
        assert client.get(target, "X-Request-Id: mine").fields["x-request-id"] == "mine"


@BOTH
def test_a_refusal_has_it_too(interface: Interface) -> None:
    settings = {"request_ids": RequestIds.RETURN, "limits": {"body": 5}, "access_log": AccessLog.ERRORS}
    with serve(interface, **settings) as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
        answer = client.answer()
        assert re.fullmatch("[0-9a-f]{24}", answer.fields["x-request-id"])
        assert [each["request_id"] for each in logged(server)] == [answer.fields["x-request-id"]]


@RUNNERS
def test_code_of_a_wsgi_request_knows_it_anywhere(threads: int) -> None:
    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("X-Own", str(REQUEST_ID.get() == environ["clusterd.request_id"]))])
        yield b"x"
        yield str(REQUEST_ID.get() == environ["clusterd.request_id"]).encode()

    with serving(application, threads=threads, request_ids=RequestIds.ON) as server, server.client() as client:
        for _ in range(3):
            answer = client.get("/")
            assert (answer.fields["x-own"], answer.body) == ("True", b"xTrue")
        assert server.on_loop(REQUEST_ID.get) is None


def test_code_of_an_asgi_request_knows_it_anywhere() -> None:
    async def application(scope: dict[str, Any], _: Any, send: Any) -> None:
        seen = [REQUEST_ID.get(), await asyncio.to_thread(REQUEST_ID.get), await asyncio.create_task(told())]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(seen == [scope["state"]["request_id"]] * 3).encode()})

    async def told() -> str | None:
        await asyncio.sleep(0)
        return REQUEST_ID.get()

    with serving(application, interface=Interface.ASGI, request_ids=RequestIds.ON) as server, server.client() as client:
        assert client.get("/").body == b"True"
        assert server.on_loop(REQUEST_ID.get) is None


@RUNNERS
@pytest.mark.parametrize("target", ["/file", "/pieces"])
@pytest.mark.parametrize("timeouts", [{}, {"request": 0.2}])
def test_what_closes_a_response_knows_it_too(
    threads: int, target: str, timeouts: dict[str, float], tmp_path: Any
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(32 << 20))
    seen: list[str | None] = []

    class OwnFile:
        def __init__(self) -> None:
            self._file = file.open("rb")
            self.read = self._file.read

        def close(self) -> None:
            seen.append(REQUEST_ID.get())
            self._file.close()

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield bytes(1 << 20)

        def close(self) -> None:
            seen.append(REQUEST_ID.get())

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [("X-Own", environ["clusterd.request_id"])])
        return environ["wsgi.file_wrapper"](OwnFile()) if target == "/file" else Pieces()

    with (
        serving(application, threads=threads, timeouts=timeouts, request_ids=RequestIds.ON) as server,
        server.client() as client,
    ):
        client.send(request(target))
        own = client.answer_head().fields["x-own"]
        if not timeouts:
            server.on_loop(server.engine.abort)
        wait_until(lambda: seen)
        assert seen[0] == own
        assert server.on_loop(REQUEST_ID.get) is None


@pytest.mark.parametrize(("own", "found"), [([], [b"mine"]), ([(b"X-Request-ID", b"own")], [b"own"])])
def test_an_accepted_websocket_has_one_identifier(own: list[tuple[bytes, bytes]], found: list[bytes]) -> None:
    async def accepts(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept", "headers": own})
        await receive()

    settings: dict[str, Any] = {"request_ids": RequestIds.RETURN, "trusted_proxies": ("127.0.0.1",)}
    with serving(accepts, interface=Interface.ASGI, **settings) as server, server.client() as client:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key)
        client.send(request("/", *upgrade, "X-Request-Id: mine"))
        lines = client.lines_until_empty()
        assert [line.partition(b": ")[2] for line in lines if line.lower().startswith(b"x-request-id:")] == found
