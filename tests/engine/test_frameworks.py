"""One contract over the applications of the frameworks people use, by the clients people use."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests

from clusterd.http.settings import Interface
from tests.support.frameworks import APPLICATIONS, PARSE_FORMS
from tests.support.serving import serving

Client = requests.Session | httpx.Client


KINDS = [
    (name, threads)
    for name, (_, interface) in APPLICATIONS.items()
    for threads in ((0, 4) if interface is Interface.WSGI else (0,))
]


def httpx_client() -> httpx.Client:
    return httpx.Client(trust_env=False)


def requests_client() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


@pytest.mark.parametrize("make_client", [requests_client, httpx_client])
@pytest.mark.parametrize(("name", "threads"), KINDS)
def test_the_contract(name: str, threads: int, make_client: Callable[[], Client]) -> None:
    make, interface = APPLICATIONS[name]
    with serving(make(), threads, interface=interface) as server, make_client() as client:
        address = f"http://{server.address[0]}:{server.address[1]}"
        for check in CHECKS:
            check(client, address)
        if name in PARSE_FORMS:
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


CHECKS: tuple[Callable[[Client, str], Any], ...] = (says_hello, takes_json, streams, is_not_found, answers_head)
