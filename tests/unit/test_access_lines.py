"""The lines of the access log: what each format shows, and that no client can forge a line or a field."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.config.settings.access_format import FIELDS, MalformedFormat, parse_format
from clusterd.http.access.answered import Answered
from clusterd.http.access.lines import compile_lines, escaped
from clusterd.http.messages.head import Head, HeadParser
from clusterd.http.settings import Underscores
from tests.support.settings import limits

NOON = 1_795_780_800.25
"""2026-11-27T12:00:00.250Z"""


def head(target: str = "/shop?item=1", *lines: str) -> Head:
    text = "\r\n".join([f"GET {target} HTTP/1.1", "Host: shop.example", *lines, "", ""])
    return HeadParser(limits(), Underscores.DROP).parse(text.encode("latin-1"))


def answered(of: Head | None = None, received: bytes = b"", status: int = 200, **changes: Any) -> Answered:
    made = Answered(of or (None if received else head()), received, status, 0.0123456, 0.5)
    made.peer, made.bytes, made.request_id = "192.0.2.1", 1234, "abc"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def line(written: str, of: Answered) -> str:
    return compile_lines(written, "3", clock=lambda: NOON)(of)


def test_common() -> None:
    assert line("common", answered()) == (
        '192.0.2.1 - - [27/Nov/2026:12:00:00 +0000] "GET /shop?item=1 HTTP/1.1" 200 1234'
    )


def test_combined_with_a_user() -> None:
    given_head = head(
        "/", "User-Agent: Mozilla/5.0", "Referer: http://a.example/", "Authorization: Basic YW5uYTpzZWNyZXQ="
    )
    assert line("combined", answered(given_head)) == (
        '192.0.2.1 - anna [27/Nov/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 1234 "http://a.example/" "Mozilla/5.0"'
    )


def test_every_field_of_a_format_string() -> None:
    written = " ".join(f"{name}={{{name}}}" for name in FIELDS)
    given_head = head("/", "User-Agent: curl/8", "traceparent: 00-1-2-03")
    assert line(written, answered(given_head, status=503, reason="too many")).split("=", 1)[1] == (
        "2026-11-27T12:00:00.250Z clf_time=27/Nov/2026:12:00:00 +0000 peer=192.0.2.1 user=- method=GET target=/ "
        "protocol=HTTP/1.1 status=503 bytes=1234 duration=0.012346 queue=0.500000 host=shop.example referer=- "
        "user_agent=curl/8 request_id=abc traceparent=00-1-2-03 worker=3 reason=too many"
    )


def test_json_has_every_field() -> None:
    document = json.loads(line("json", answered(queue=-1.0, request_id="", peer="")))
    assert document == {
        "time": "2026-11-27T12:00:00.250Z",
        "peer": None,
        "user": None,
        "method": "GET",
        "target": "/shop?item=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "duration": 0.012346,
        "queue": None,
        "host": "shop.example",
        "referer": None,
        "user_agent": None,
        "request_id": None,
        "traceparent": None,
        "worker": "3",
        "reason": None,
    }
    assert set(document) == set(FIELDS) - {"clf_time"}


def test_the_time_is_that_of_each_line() -> None:
    now = [NOON, NOON + 0.5, NOON + 86400.0]
    made = compile_lines("{time}", "", clock=lambda: now.pop(0))
    assert [made(answered()) for _ in range(3)] == [
        "2026-11-27T12:00:00.250Z",
        "2026-11-27T12:00:00.750Z",
        "2026-11-28T12:00:00.250Z",
    ]


def test_text_of_a_format_stays_text() -> None:
    assert line("100% {{'\\n}} {status} a.b %s {method}", answered()) == "100% {'\\n} 200 a.b %s GET"


@pytest.mark.parametrize(
    ("written", "why"),
    [("{nothing}", "there is no field {nothing}"), ("{method", "twice"), ("method}", "no field"), ("{a}}", "no field")],
)
def test_what_is_no_format(written: str, why: str) -> None:
    with pytest.raises(MalformedFormat, match=re.escape(why)):
        parse_format(written)


@pytest.mark.parametrize(
    ("received", "seen"),
    [
        (b"GET /a b\r\nHost: x\r\n\r\n", "- GET\\x20/a"),
        (b"\x16\x03\x01\x02\x00\n", "- \\x16\\x03\\x01\\x02\\x00"),
        (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", "GET /a HTTP/1.1"),
        (b"\r\n\r\nPOST /b HTTP/9.9\r\n", "POST /b HTTP/9.9"),
    ],
)
def test_a_request_that_is_none_is_shown_as_it_came(received: bytes, seen: str) -> None:
    shown = line("{method} {target} {protocol}", answered(received=received, status=400))
    assert shown.startswith(seen.replace("\\x20", " "))


def test_a_long_line_that_is_no_request_is_cut() -> None:
    assert len(line("{target}", answered(received=b"x" * 10_000, status=414))) < 400


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("", "-"),
        ("plain ~ text", "plain ~ text"),
        ('a"b\\c', "a\\x22b\\x5cc"),
        ("\x1b[31m\t\n", "\\x1b[31m\\x09\\x0a"),
        ("caf\xe9", "caf\\xe9"),
        ("\u2028", "\\x5c\\x75\\x32\\x30\\x32\\x38"),
    ],
)
def test_escapes(given_text: str, shown: str) -> None:
    assert escaped(given_text) == shown


SENT = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=50)


@given(SENT, SENT, SENT)
def test_nothing_that_a_client_sends_ends_a_field_or_a_line(agent: str, referer: str, target: str) -> None:
    made = answered(received=target.encode("latin-1") or b" ")
    made.fields = type(made.fields)({"user-agent": agent, "referer": referer}, [])
    combined = line("combined", made)
    assert combined.isascii() and combined.isprintable()
    assert combined.count('"') == 6
    document = json.loads(line("json", made))
    assert (document["user_agent"] or "", document["referer"] or "") == (agent, referer)


@given(st.binary(max_size=60))
def test_no_credentials_break_a_line(credentials: bytes) -> None:
    made = answered()
    made.fields = type(made.fields)({"authorization": f"Basic {credentials.decode('latin-1')}"}, [])
    assert line("common", made).isprintable()
