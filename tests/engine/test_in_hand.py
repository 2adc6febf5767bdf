"""What the engine records of the requests that the application is handling, and what it logs of slow ones."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.http.settings import Interface
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
