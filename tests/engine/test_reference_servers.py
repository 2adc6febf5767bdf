"""What applications may pass to clusterd is what they may pass to other servers, but for the differences listed here.

`test_application_messages.py` has both forms of clusterd's engine say what is expected of the others here. uvicorn has
no trailers, early hints or pathsend.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support.application_messages import (
    ACCEPT,
    BODY,
    CLOSE,
    HTTP,
    START,
    START_RESPONSE,
    WEBSOCKET,
    WSGI,
    Application,
    Given,
    Indexed,
    Octets,
    Speaks,
    Text,
    WsgiApplication,
)
from tests.support.reference_servers import Address, uvicorn_serving, wsgiref_serving
from tests.support.serving import PATIENCE, Client, request

pytestmark = pytest.mark.engine_independent  # The other servers are asked, not clusterd.

UVICORN_HTTP = [each for each in HTTP if each.message in (START, BODY) and each.key != "trailers"]


@dataclass(frozen=True)
class Difference:
    """Values that clusterd takes and the reference does not, or the other way, and why."""

    message: str
    key: str
    holds: Callable[[Any], bool]
    why: str
    clusterd_takes: bool = True

    def is_of(self, given: Given) -> bool:
        place = (given.message, given.key, given.is_taken)
        return place == (self.message, self.key, self.clusterd_takes) and self.holds(given.make())


FROM_UVICORN = [
    Difference(
        START,
        "status",
        lambda value: isinstance(value, Indexed),
        "uvicorn looks the status up in a table; what is an integer by operator.index, as numpy's are, is one here",
    ),
    Difference(
        START,
        "headers",
        lambda value: value == [("x-given", "value")],
        "ASGI has byte strings; uvicorn's parser h11 happens to encode text, its default httptools refuses it",
        clusterd_takes=False,
    ),
    Difference(
        ACCEPT,
        "headers",
        lambda value: isinstance(value, list) and isinstance(value[0], list) and isinstance(value[0][1], memoryview),
        "uvicorn decodes the value, and a memoryview has no `decode`; uvicorn takes it in http.response.start",
    ),
    Difference(
        CLOSE,
        "code",
        lambda value: isinstance(value, Indexed),
        "uvicorn compares the code with numbers; as for the status of http.response.start",
    ),
    Difference(
        CLOSE,
        "code",
        lambda value: value == 0,
        "ASGI has 1000 as the default; a framework that passes on a code that it has not got means none",
    ),
]
ONLY_A_LIST = "PEP 3333 says a list; gunicorn, uWSGI and waitress take any iterable, and applications pass some"
ONLY_STR = "PEP 3333 says exactly str, for what other types may do; other servers take subclasses, which Django passes"
FROM_WSGIREF = [
    Difference(START_RESPONSE, "status", lambda value: isinstance(value, Text), ONLY_STR),
    Difference(START_RESPONSE, "headers", lambda value: not isinstance(value, list), ONLY_A_LIST),
    Difference(
        START_RESPONSE,
        "headers",
        lambda value: isinstance(value, list) and isinstance(value[0], (list, tuple)) and isinstance(value[0][0], Text),
        ONLY_STR,
    ),
    Difference(
        START_RESPONSE,
        "headers",
        lambda value: value == [["X-Given", "value"]] and not isinstance(value[0][0], Text),
        "PEP 3333 says tuples; wsgiref takes the list, and breaks the response off when it sends it",
    ),
    Difference(
        "response",
        "body",
        lambda value: isinstance(value, list) and any(isinstance(each, Octets) for each in value),
        "PEP 3333 says exactly bytes; other servers take subclasses",
    ),
]


def test_uvicorn_and_clusterd_say_the_same_of_a_response() -> None:
    applications = [Application(each) for each in UVICORN_HTTP]
    with uvicorn_serving(chosen_by_path(applications)) as address:
        verdicts = [answers(address, number, each) for number, each in enumerate(applications)]
    assert_same(UVICORN_HTTP, verdicts, [each for each in FROM_UVICORN if each.message == START])


def test_uvicorn_and_clusterd_say_the_same_of_a_websocket() -> None:
    applications = [Speaks(each) for each in WEBSOCKET]
    with uvicorn_serving(chosen_by_path(applications)) as address:
        verdicts = [talks(address, number, each) for number, each in enumerate(applications)]
    assert_same(WEBSOCKET, verdicts, [each for each in FROM_UVICORN if each.message != START])


def test_wsgiref_and_clusterd_say_the_same() -> None:
    applications = [WsgiApplication(each) for each in WSGI]

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return applications[int(environ["PATH_INFO"][1:])](environ, start_response)

    with wsgiref_serving(application) as address:
        verdicts = [answers(address, number, each) for number, each in enumerate(applications)]
    assert_same(WSGI, verdicts, FROM_WSGIREF)


def chosen_by_path(applications: Sequence[Application]) -> Any:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await applications[int(scope["path"][1:])](scope, receive, send)

    return application


def answers(address: Address, number: int, application: Application | WsgiApplication) -> bool:
    """Whether the whole response has come, with what was given."""
    with Client(socket.create_connection(address, timeout=PATIENCE)) as client:
        client.send(request(f"/{number}"))
        try:
            answer = client.answer()
        except (AssertionError, ValueError, ConnectionError):
            return False
    has_field = application.given.key != "headers" or answer.fields.get("x-given") == "value"
    return (answer.status, answer.body, has_field, application.error) == (200, b"body", True, None)


def talks(address: Address, number: int, application: Speaks) -> bool:
    """Whether the message has come, and then the closing frame that was given."""
    try:
        with connect(
            f"ws://{address[0]}:{address[1]}/{number}", subprotocols=[Subprotocol("chat")], proxy=None
        ) as client:
            said = client.recv(PATIENCE)
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE)
    except (InvalidHandshake, ConnectionClosed):
        return False
    return said in ("text", b"text") and application.error is None


def assert_same(given: Sequence[Given], verdicts: Sequence[bool], differences: Sequence[Difference]) -> None:
    for each, is_taken in zip(given, verdicts, strict=True):
        differs = any(difference.is_of(each) for difference in differences)
        assert is_taken != each.is_taken if differs else is_taken == each.is_taken, f"{each}: {is_taken}"
    for difference in differences:
        assert any(difference.is_of(each) for each in given), f"none is left of: {difference.why}"
