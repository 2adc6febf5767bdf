"""What a client asks of frameworks that are not made for the paths of the others."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.conformance.features import (
    BODY,
    NOTHING,
    Check,
    Seen,
    by_a_reset,
    by_closing,
    measured,
    uploads,
)
from tests.conformance.served import Served
from tests.support.frames import TEXT, Raw, frame
from tests.support.frameworks import Feature
from tests.support.service import PATIENCE_SECONDS
from tests.support.serving import Client


def takes_an_upload_of_known_length(served: Served) -> Seen:
    uploads(served, BODY)
    return Seen(note="Not in chunks: a2wsgi does not tell the application that the body has an end of its own.")


def stores_an_upload(served: Served) -> Seen:
    with served.http() as client:
        assert client.put("/uploaded", content=BODY).status_code in (201, 204)
        assert client.get("/uploaded").content == BODY
        assert b"uploaded" in client.request("PROPFIND", "/", headers={"Depth": "1"}).content
    return NOTHING


SESSION = "/socket.io/?EIO=4&transport="


def polled(client: Any, sid: str) -> str:
    return str(client.get(f"{SESSION}polling&sid={sid}").text)


def uploads_by_polling(served: Served) -> Seen:
    """A large event, sent by POST, and the answer to it, fetched by GET: as often as it takes to reach one worker."""
    with served.http() as client:
        sid = json.loads(client.get(f"{SESSION}polling").text[1:])["sid"]
        for packet in ("40", '421["echo","' + "x" * 500_000 + '"]'):
            assert client.post(f"{SESSION}polling&sid={sid}", content=packet).text == "OK"
            got = polled(client, sid)
        assert got == '431["' + "x" * 500_000 + '"]'
    return NOTHING


def answers_any_head(served: Served) -> Seen:
    with served.client() as client:
        for _ in range(2):
            assert client.get("/socket.io/", method="HEAD").status in (400, 405)
    return NOTHING


@contextmanager
def socket_io(served: Served, name: str) -> Iterator[ClientConnection]:
    with connect(f"ws://{served.address}{SESSION}websocket&name={name}", proxy=None) as client:
        assert str(client.recv(PATIENCE_SECONDS)).startswith("0{")
        client.send("40")
        assert str(client.recv(PATIENCE_SECONDS)).startswith("40{")
        yield client


def talks_socket_io(served: Served) -> Seen:
    with socket_io(served, served.name()) as client:
        for said in ("text", "\u00f6" * 50_000):
            client.send('420["echo",' + json.dumps(said) + "]")
            assert json.loads(str(client.recv(PATIENCE_SECONDS))[3:]) == [said]
    return NOTHING


def works_in_socket_ios_background(served: Served) -> Seen:
    name = served.name()
    with socket_io(served, served.name()) as client:
        client.send(f'420["background","{name}"]')
        assert client.recv(PATIENCE_SECONDS) == '430["later"]'
    served.wait_for_note(name)
    return NOTHING


def socket_io_ends(leave: Callable[[Client], None]) -> Check:
    return lambda served: measured(served, lambda name: leaves_socket_io(served, name, leave))


def leaves_socket_io(served: Served, name: str, leave: Callable[[Client], None]) -> float:
    talking = Raw(served, f"{SESSION}websocket&name={name}")
    assert talking.frame()[1].startswith(b"0{")
    talking.client.send(frame(TEXT, b"40"))
    assert talking.frame()[1].startswith(b"40{")
    left = time.monotonic()
    leave(talking.client)
    return left


CHECKS_OF: dict[str, dict[Feature, Check]] = {
    "Flask by a2wsgi, ASGI": {Feature.UPLOAD: takes_an_upload_of_known_length},
    "WsgiDAV": {Feature.UPLOAD: stores_an_upload},
    "python-socketio": {
        Feature.UPLOAD: uploads_by_polling,
        Feature.HEAD: answers_any_head,
        Feature.WEBSOCKET: talks_socket_io,
        Feature.BACKGROUND: works_in_socket_ios_background,
        Feature.WEBSOCKET_CLOSES: socket_io_ends(by_closing),
        Feature.WEBSOCKET_RESETS: socket_io_ends(by_a_reset),
    },
}
