"""Header fields with underscores in their names, which frameworks take for those with hyphens: `underscores`."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from clusterd.http.settings import Interface, Underscores
from tests.support.serving import serving

Start = Callable[..., Any]
Receive = Callable[..., Any]
BOTH = pytest.mark.parametrize("interface", [Interface.WSGI, Interface.ASGI])


def wsgi(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    names = {name[5:].lower(): environ[name] for name in environ if name.startswith(("HTTP_X", "HTTP_CONTENT"))}
    body = json.dumps(names).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Receive, send: Receive) -> None:
    """What a framework that looks for CGI's names sees: repeated ones joined, as Django does."""
    names: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name.startswith((b"x", b"content_")):
            key = name.decode().replace("-", "_")
            names[key] = f"{names[key]}, {value.decode()}" if key in names else value.decode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(names).encode()})


APPLICATIONS = {Interface.WSGI: wsgi, Interface.ASGI: asgi}


def answers(interface: Interface, underscores: Underscores | None, *fields: str) -> list[Any]:
    """What the application sees of the fields in three requests, the last of which the engine knows by heart."""
    changes: dict[str, Any] = {} if underscores is None else {"underscores": underscores}
    seen = []
    with serving(APPLICATIONS[interface], 0, interface=interface, **changes) as server:
        for _ in range(3):
            with server.client() as client:
                answer = client.get("/", *fields)
            seen.append(json.loads(answer.body) if answer.status == 200 else answer.status)
    return seen


@BOTH
@pytest.mark.parametrize("underscores", [None, Underscores.DROP])
def test_by_default_they_are_dropped(interface: Interface, underscores: Underscores | None) -> None:
    seen = answers(interface, underscores, "X_User: forged", "X-Real: 1", "X_Y-Z: 2")
    assert seen == 3 * [{"x_real": "1"}]


@BOTH
def test_they_are_handed_on_where_asked_to(interface: Interface) -> None:
    seen = answers(interface, Underscores.PASS, "X_User: a", "X-Real: 1", "x_user: b", "Content_Length: 7")
    assert seen == 3 * [{"x_user": "a, b", "x_real": "1", "content_length": "7"}]


@BOTH
@pytest.mark.parametrize(
    "fields",
    [
        ("X-User: real", "X_User: forged"),
        ("X_User: forged", "x-user: real"),
        ("X_USER: forged", "X-User: real", "x_user: forged"),
    ],
)
def test_one_never_replaces_or_joins_one_with_hyphens(interface: Interface, fields: tuple[str, ...]) -> None:
    assert answers(interface, Underscores.PASS, *fields, "X_Other: 1") == 3 * [{"x_user": "real", "x_other": "1"}]


@BOTH
def test_what_cannot_be_told_apart_is_not_handed_on(interface: Interface) -> None:
    assert answers(interface, Underscores.PASS, "X_A-B: 1", "X-A_B: 2", "X-C: 3") == 3 * [{"x_c": "3"}]


@BOTH
def test_a_request_with_one_is_refused_where_asked_to(interface: Interface) -> None:
    assert answers(interface, Underscores.REFUSE, "X_User: forged", "X-Real: 1") == 3 * [400]
    assert answers(interface, Underscores.REFUSE, "X-Real: a_b") == 3 * [{"x_real": "a_b"}]
