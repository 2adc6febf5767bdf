"""One contract over the applications of the frameworks people use, by the clients people use."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests

from clusterd.http.settings import Interface
from tests.support.frameworks import BY_TITLE
from tests.support.frameworks.shared import FILE
from tests.support.serving import serving

Client = requests.Session | httpx.Client

KINDS = [
    (title, threads)
    for title in ("Starlette", "FastAPI", "Litestar", "Quart", "Django, ASGI", "Django, WSGI", "Flask")
    for threads in ((0, 4) if BY_TITLE[title].interface == "wsgi" else (0,))
]
PARSE_FORMS = ("Flask", "Django, WSGI", "Django, ASGI", "Quart")
"""The others need a package more for it."""


def httpx_client() -> httpx.Client:
    return httpx.Client(trust_env=False)


def requests_client() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


# Django reads a file for FileResponse synchronously, and warns of it.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize("make_client", [requests_client, httpx_client])
@pytest.mark.parametrize(("title", "threads"), KINDS)
def test_the_contract(title: str, threads: int, make_client: Callable[[], Client]) -> None:
    """`make conformance` asks more, of more frameworks, under a whole service."""
    framework = BY_TITLE[title]
    interface = Interface(framework.interface)
    with serving(framework.make(), threads, interface=interface) as server, make_client() as client:
        address = f"http://{server.address[0]}:{server.address[1]}"
        for check in CHECKS:
            check(client, address)
        if title in PARSE_FORMS:
            assert client.post(f"{address}/form", data={"a": "b"}).text == "b"
        assert server.ledger.errors == []


def says_hello(client: Client, address: str) -> None:
    for _ in range(2):
        answer = client.get(f"{address}/hello?name=W%C3%B6rld")
        assert (answer.status_code, answer.text) == (200, "hello W\u00f6rld")


def takes_json(client: Client, address: str) -> None:
    document = {"numbers": list(range(20_000))}
    answer = client.post(f"{address}/json", json=document)
    assert (answer.status_code, answer.json()) == (200, document)


def streams(client: Client, address: str) -> None:
    if isinstance(client, httpx.Client):
        with client.stream("GET", f"{address}/stream") as response:
            pieces = list(response.iter_raw())
    else:
        pieces = list(client.get(f"{address}/stream", stream=True).iter_content(None))
    assert b"".join(pieces) == b"x" * 100_000


def is_not_found(client: Client, address: str) -> None:
    assert client.get(f"{address}/nothing/of/that/name").status_code == 404


def answers_head(client: Client, address: str) -> None:
    answer = client.head(f"{address}/hello?name=a")
    assert answer.content == b""


def takes_an_upload(client: Client, address: str) -> None:
    body = bytes(range(256)) * 4096
    headers = {"Content-Type": "application/octet-stream"}
    if isinstance(client, httpx.Client):
        answer: Any = client.post(f"{address}/upload", content=body, headers=headers)
    else:
        answer = client.post(f"{address}/upload", data=body, headers=headers)
    assert (answer.status_code, answer.content == body) == (200, True)


def sends_a_file(client: Client, address: str) -> None:
    answer = client.get(f"{address}/file")
    assert (answer.status_code, answer.content == FILE.read_bytes()) == (200, True)


CHECKS: tuple[Callable[[Client, str], Any], ...] = (
    says_hello,
    takes_json,
    streams,
    is_not_found,
    answers_head,
    takes_an_upload,
    sends_a_file,
)
