"""A connection that ends is ended for its client, although another process holds the socket.

A process that the application forks holds every connection of its worker open. Here a duplicate does.
"""

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusterd.http.settings import Interface
from tests.support.serving import PATIENCE, Client, Serving, request, serving, wait_until


class Holder:
    """Applications that hold the socket of every connection before they answer."""

    def __init__(self) -> None:
        self.server: Serving
        self.held: list[int] = []

    def hold(self) -> None:
        self.held += [os.dup(each.fileno()) for each in self.server.engine.connections]

    def wsgi(self, _: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.hold()
        start_response("200 OK", [])
        return [b"held"]

    async def asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.hold()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"held"})

    def release(self) -> None:
        for descriptor in self.held:
            os.close(descriptor)


@pytest.fixture(params=["wsgi", "wsgi in threads", "asgi"])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    holder = Holder()
    settings: dict[str, Any] = {"interface": Interface.ASGI} if request.param == "asgi" else {}
    application = holder.asgi if request.param == "asgi" else holder.wsgi
    with serving(application, threads=2 * (request.param == "wsgi in threads"), **settings) as made:
        holder.server = made
        yield made
    holder.release()


def ends(client: Client) -> bool:
    """Whether the client reads the end of file while the socket is held."""
    client.socket.settimeout(PATIENCE)
    rest = client.rest()
    return rest == b"" or rest.endswith(b"held")


ONCE = [b"GET / HTTP/1.0\r\n\r\n", request("/", "Connection: close")]


@pytest.mark.parametrize("data", ONCE)
def test_the_answer_to_a_last_request_ends(server: Serving, data: bytes) -> None:
    with server.client() as client:
        client.send(data)
        assert ends(client)


@pytest.mark.parametrize("data", ONCE)
def test_so_does_that_to_a_request_that_comes_in_two_parts(server: Serving, data: bytes) -> None:
    with server.client() as client:
        client.send(data[:10])
        wait_until(lambda: any(len(each.residual) == 10 for each in server.engine.connections))
        client.send(data[10:])
        assert ends(client)


def test_a_kept_connection_ends_when_the_server_closes_it(server: Serving) -> None:
    with server.client() as client:
        assert client.get().body == b"held"
        server.wait_for_rest()
        server.on_loop(server.engine.retirement.close_idle)
        assert ends(client)


def test_a_client_that_has_closed_its_side_reads_the_end(server: Serving) -> None:
    with server.client() as client:
        assert client.get().body == b"held"
        client.socket.shutdown(socket.SHUT_WR)
        assert ends(client)


def test_a_dropped_connection_ends(server: Serving) -> None:
    with server.client() as client:
        assert client.get().body == b"held"
        [connection] = server.engine.connections
        server.on_loop(connection.abort)
        assert ends(client)


def test_a_connection_that_was_handed_over_goes_on(server: Serving) -> None:
    with server.client() as client:
        assert client.get().body == b"held"

        wait_until(lambda: server.on_loop(lambda: all(each.movable for each in server.engine.connections)))

        def give_away() -> int:
            [connection] = server.engine.connections
            connection.detach()
            descriptor = os.dup(connection.fileno())
            connection.release()
            return descriptor

        other = socket.socket(fileno=server.on_loop(give_away))
        wait_until(lambda: not server.engine.connections)
        with other:
            client.send(b"still open")
            other.settimeout(PATIENCE)
            assert other.recv(100) == b"still open"
