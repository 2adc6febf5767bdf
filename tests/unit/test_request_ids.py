"""The identifiers of requests: whose are believed, and how those made here differ."""

import re

import pytest

from clusterd.http.access.request_ids import RequestIds, mark
from clusterd.http.messages.head import Fields
from clusterd.http.messages.response import TEXT_FIELDS, ResponseHead

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def of(fields: dict[str, str], is_trusted: bool = True) -> str:
    return RequestIds(returns=False).of(Fields(fields, []), is_trusted)


def is_made(found: str) -> bool:
    return re.fullmatch("[0-9a-f]{24}", found) is not None


def test_each_request_of_each_process_has_its_own() -> None:
    one, other = RequestIds(returns=False), RequestIds(returns=False)
    made = [each.of(Fields({}, []), is_trusted=False) for each in (one, other) for _ in range(1000)]
    assert len(set(made)) == 2000
    assert all(map(is_made, made))
    assert made[0][:16] == made[999][:16] != made[1000][:16]
    assert made[:1000] == sorted(made[:1000])


def test_a_trusted_proxy_gives_it() -> None:
    assert of({"x-request-id": "shop-1/a:b@c=d+e~f.g_h"}) == "shop-1/a:b@c=d+e~f.g_h"
    assert of({"traceparent": TRACEPARENT}) == TRACE
    assert of({"x-request-id": "mine", "traceparent": TRACEPARENT}) == "mine"
    assert of({"x-request-id": "not usable", "traceparent": f"{TRACEPARENT}-later"}) == TRACE


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"x-request-id": ""},
        {"x-request-id": "a b"},
        {"x-request-id": "x" * 129},
        {"x-request-id": "caf\xe9"},
        {"x-request-id": 'a"b'},
        {"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"},
        {"traceparent": TRACEPARENT.upper()},
        {"traceparent": "00-1-2-03"},
    ],
)
def test_what_is_no_identifier_is_not_taken(fields: dict[str, str]) -> None:
    assert is_made(of(fields))


def test_a_client_gives_none() -> None:
    assert is_made(of({"x-request-id": "mine", "traceparent": TRACEPARENT}, is_trusted=False))


def test_a_response_has_one_identifier() -> None:
    ours = ResponseHead("200 OK", [("A", "b")], TEXT_FIELDS, "")
    mark(ours, "abc")
    assert ours.fields == b"A: b\r\nX-Request-Id: abc\r\n"
    own = ResponseHead("200 OK", [("x-request-ID", "own")], TEXT_FIELDS, "")
    mark(own, "abc")
    assert own.fields == b"x-request-ID: own\r\n"
    others = ResponseHead("200 OK", [("Upstream-X-Request-Id", "b"), ("A", "x-request-id: b")], TEXT_FIELDS, "")
    mark(others, "abc")
    assert others.fields.endswith(b"\r\nX-Request-Id: abc\r\n")
