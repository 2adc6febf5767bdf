"""What the engine knows of the requests that the application is handling, and what it logs of slow ones."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clusterd.http.settings import RequestIds
from clusterd.wire.in_hand import PLACES
from tests.support.serving import PATIENCE, request, serving, wait_until

StartResponse = Callable[..., Any]


def test_a_call_that_goes_on_after_its_response_was_broken_off_stays_in_hand() -> None:
    release = threading.Event()

    def application(_: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        release.wait(PATIENCE)

    with serving(application, threads=1, timeouts={"request": 0.2}) as server, server.client() as client:
        client.send(request("/stuck"))
        wait_until(lambda: server.ledger.timeouts["request"] == 1)
        in_hand = server.engine.in_hand
        assert [line for _, line, _, _ in server.on_loop(in_hand.left_requests)] == [b"GET /stuck HTTP/1.1\r\n"]
        release.set()
        wait_until(lambda: server.on_loop(in_hand.left_requests) == [])


def test_the_time_that_a_file_takes_is_the_clients(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(32 << 20))

    def application(environ: dict[str, Any], start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](file.open("rb"))

    with serving(application, threads=1, slow=0.1) as server, server.client() as client:
        client.send(request("/file"))
        wait_until(lambda: [each for each in server.on_loop(server.engine.requests_in_flight) if each.age > 0.3])
        client.answer()
        wait_until(lambda: server.ledger.warnings)
        [(message, fields)] = server.ledger.warnings
        assert message == "a slow request has ended"
        assert fields["client"] > fields["application"]  # type: ignore[operator]


def test_what_is_said_of_a_slow_request_has_its_identifier() -> None:
    ids: list[str] = []

    def application(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        ids.append(environ["clusterd.request_id"])
        ids.extend(each.request_id for each in server.engine.requests_in_flight())
        start_response("200 OK", [])
        return [b""]

    with serving(application, slow=0.0, request_ids=RequestIds.ON) as server, server.client() as client:
        client.get("/")
        wait_until(lambda: server.ledger.warnings)
        ids.append(str(server.ledger.warnings[0][1]["request_id"]))
        assert len(ids) == 3
        assert len(set(ids)) == 1


def test_a_place_that_another_connection_has_taken_is_not_said_to_be_a_requests() -> None:
    def application(_: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    with serving(application, threads=1) as server, server.client() as client:
        client.get("/")
        server.wait_for_rest()
        in_hand = server.engine.in_hand

        def taken() -> set[int]:
            line = b"GET / HTTP/1.1\r\n"
            return {in_hand.begin(in_hand.nowhere, object(), 0, line, None, 1.0).index for _ in range(PLACES)}

        places = server.on_loop(taken)
        assert len(places) == PLACES
        client.send(b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
        wait_until(lambda: server.on_loop(server.engine.requests_in_flight))
        [found] = server.on_loop(server.engine.requests_in_flight)
        assert (found.target, found.phase) == ("/upload", "receiving")
        assert found.place not in places
