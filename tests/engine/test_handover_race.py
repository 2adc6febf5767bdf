"""A connection that moves on the moment it arrives takes every byte with it."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from clusterd.wire.connection_state import CarriedState
from tests.support.moving import move_on
from tests.support.settings import http_settings

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def answer(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("204 No Content", [])
    return []


@pytest.mark.parametrize("residual", [b"", REQUEST[:10]])
def test_nothing_is_read_from_a_connection_that_moves_as_it_arrives(residual: bytes) -> None:
    client, server = socket.socketpair()
    with client:
        client.sendall(REQUEST[len(residual) :])
        arriving = CarriedState(residual, None, None, "http", 0) if residual else None
        carried, rest = uvloop.run(move_on(answer, http_settings(threads=0), server, arriving))
        moved = carried.residual + rest
        # Either the whole request moves on, or it was answered before the connection did.
        assert moved == REQUEST or (not moved and client.recv(65536).startswith(b"HTTP/1.1 204"))
