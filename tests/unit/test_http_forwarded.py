"""Whom a request comes from: what trusted proxies said, and nothing that anybody else made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.http.messages.forwarded_fields import ForwardedFields
from clusterd.http.messages.head import Fields
from clusterd.http.origins.forwarded import MOST_COMMAS, MOST_HOPS, NOTHING_TOLD, told_by
from clusterd.http.origins.trust import TrustedProxies

TRUSTED = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


def told(**values: str) -> ForwardedFields:
    return told_by(Fields({name.replace("_", "-"): value for name, value in values.items()}, []), TRUSTED)


def client(host: str, port: int = 0, scheme: str | None = None) -> ForwardedFields:
    return ForwardedFields(True, (host, port), scheme)


HIDDEN = ForwardedFields(True, None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", client("192.0.2.1")),
        ("192.0.2.1:4711", client("192.0.2.1", 4711)),
        ("6.6.6.6, 192.0.2.1", client("192.0.2.1")),
        ("6.6.6.6, 192.0.2.1 ,\t10.1.2.3,10.9.9.9", client("192.0.2.1")),
        ("10.0.0.9, 10.1.2.3", client("10.0.0.9")),  # all are proxies: the first one asked for itself
        ("2001:db8::1", client("2001:db8::1")),
        ("2001:DB8:0::1", client("2001:db8::1")),
        ("[2001:db8::1]", client("2001:db8::1")),
        ("[2001:db8::1]:80, fd00::7", client("2001:db8::1", 80)),
        ("::ffff:192.0.2.1", client("192.0.2.1")),
        ("192.0.2.1, ::ffff:10.0.0.1", client("192.0.2.1")),
        ("unknown", HIDDEN),
        ("6.6.6.6, unknown, 10.0.0.1", HIDDEN),
        ("!\"'garbage, 192.0.2.1", client("192.0.2.1")),  # what the client made up is not looked at
        ("127.0.0.1, 6.6.6.6:99999, 192.0.2.1", client("192.0.2.1")),
    ],
)
def test_the_first_address_from_the_end_that_is_no_proxy_is_the_client(value: str, expected: ForwardedFields) -> None:
    assert told(x_forwarded_for=value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "", ",", "192.0.2.1,", "localhost", "192.0.2", "192.0.2.256", "192.0.2.01", "192.0.2.1:65536", "192.0.2.1:",
        "[192.0.2.1]", "[::1", "::1]", "fe80::1%eth0", "[::1]80", "1", "::1::", "192.0.2.1 10.0.0.1", "192.0.2.1;",
        "garbage, 10.0.0.1", "\xb2.0.0.1", "192.0.2.1:\xb2",
    ],
)  # fmt: skip
def test_a_malformed_list_tells_nothing(value: str) -> None:
    assert told(x_forwarded_for=value) == NOTHING_TOLD


@pytest.mark.parametrize(
    ("value", "scheme"),
    [("https", "https"), ("HTTP", "http"), ("http, https", "https"), ("https,http", "http"), ("https, ", None),
     ("ftp", None), ("", None), ("wss", "https"), ("Ws", "http"), ("https, ws", "http"), ("https http", None)],
)  # fmt: skip
def test_the_scheme_is_that_of_the_nearest_proxy(value: str, scheme: str | None) -> None:
    assert told(x_forwarded_proto=value) == ForwardedFields(False, None, scheme)
    assert told(x_forwarded_for="192.0.2.1", x_forwarded_proto=value) == client("192.0.2.1", 0, scheme)
    assert told(x_forwarded_for="?", x_forwarded_proto=value) == ForwardedFields(False, None, scheme)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.1", client("192.0.2.1")),
        ("For=192.0.2.1;Proto=HTTPS;by=10.0.0.1;host=example", client("192.0.2.1", 0, "https")),
        ('for="192.0.2.1:4711" ; proto=http', client("192.0.2.1", 4711, "http")),
        ('for="[2001:db8::1]:80"', client("2001:db8::1", 80)),
        ('for="[2001:db8::1]";proto="https"', client("2001:db8::1", 0, "https")),
        ('for="192.0.2.1:_port"', client("192.0.2.1")),
        ("for=192.0.2.1;proto=https, for=10.0.0.1;proto=http", client("192.0.2.1", 0, "https")),
        ("for=6.6.6.6;proto=https, for=192.0.2.1;proto=http", client("192.0.2.1", 0, "http")),
        ("for=6.6.6.6, for=_hidden;proto=https", ForwardedFields(True, None, "https")),
        ("for=unknown", HIDDEN),
        ("proto=https", ForwardedFields(True, None, "https")),
        ("for=10.0.0.9, for=10.0.0.1", client("10.0.0.9")),
        ("for=192.0.2.1;proto=ftp", client("192.0.2.1")),
        ('for=192.0.2.1;x="a, for=6.6.6.6"', client("192.0.2.1")),
        (r'for=192.0.2.1;x="a, for=\"6.6.6.6\""', client("192.0.2.1")),
        (r'for="192.0.2\.1"', client("192.0.2.1")),
        # What a client made up cannot swallow what the proxy added.
        ('for="6.6.6.6, for=192.0.2.1', client("192.0.2.1")),
        ('for=6.6.6.6;x="\\, for=192.0.2.1;proto=http', client("192.0.2.1", 0, "http")),
        ("=;=,,, for=192.0.2.1", client("192.0.2.1")),
    ],
)
def test_forwarded_is_understood(value: str, expected: ForwardedFields) -> None:
    assert told(forwarded=value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "", ",", "for", "for=", "for =1.2.3.4", "for=1.2.3.4,", "for=1.2.3.4:80", "for=[::1]", 'for="::1"',
        "for=1.2.3.4;for=5.6.7.8", "for=example.org", 'for="1.2.3.4', "for=1.2.3.4 proto=http",
        "for=1.2.3.4;;proto=http", "for=garbage, for=10.0.0.1", "for=1.2.3.4;x=" + "a" * 2000 + "," * 2000,
    ],
)  # fmt: skip
def test_a_malformed_forwarded_tells_nothing(value: str) -> None:
    assert told(forwarded=value) == NOTHING_TOLD


@pytest.mark.parametrize("other", [{"x_forwarded_for": "?"}, {"x_forwarded_proto": "?"}])
def test_forwarded_is_not_looked_at_beside_the_others(other: dict[str, str]) -> None:
    assert told(forwarded="for=6.6.6.6;proto=https", **other) == NOTHING_TOLD


_characters = st.text(st.sampled_from("for=proto;,:\"\\ \t[]._%0129abunkw'*\xe9"), max_size=60) | st.text(max_size=30)


@given(_characters)
def test_nothing_that_a_client_sends_raises_or_shows_behind_what_a_proxy_added(made_up: str) -> None:
    told(x_forwarded_for=made_up, x_forwarded_proto=made_up)
    told(forwarded=made_up)
    assert told(x_forwarded_for=f"{made_up}, 192.0.2.1") == client("192.0.2.1")
    assert told(forwarded=f"{made_up}, for=192.0.2.1;proto=http") == client("192.0.2.1", 0, "http")


@pytest.mark.parametrize(
    "piece", [",", ",a=b", ',a="', ',a=";,b="', ',a="\\",', ';a="b"', "10.0.0.1,", " ,for=10.0.0.1"]
)
def test_long_fields_take_no_long_time(piece: str) -> None:
    value = piece * (32_768 // len(piece))
    told(x_forwarded_for=value)
    told(forwarded=value)
    told(forwarded=value + "x")


@pytest.mark.parametrize(
    ("host", "is_trusted"),
    [
        ("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("127.0.0.2", False), ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("fd12::1", True), ("fe80::1%eth0", False), ("::1", False), ("", False), ("unix", False), ("localhost", False),
    ],
)  # fmt: skip
def test_a_peer_is_trusted_by_address_and_network(host: str, is_trusted: bool) -> None:
    assert TRUSTED.trusts((host, 1)) is is_trusted
    assert TRUSTED.trusts((host, 1)) is is_trusted
    assert not TrustedProxies([]).trusts((host, 1))


def test_a_link_local_proxy_is_trusted_in_every_zone() -> None:
    assert TrustedProxies(["fe80::/10"]).trusts(("fe80::1%eth0", 1))


def test_peers_without_an_address_are_trusted_by_the_word_unix() -> None:
    assert TrustedProxies(["unix"]).trusts(None)
    assert not TRUSTED.trusts(None)


def test_more_proxies_in_a_row_than_there_are_tell_nothing() -> None:
    """A list is looked at to a certain length only, whatever a client writes into it."""
    near = ["10.0.0.1"] * (MOST_HOPS - 1)
    for name, written in (("x-forwarded-for", "{}"), ("forwarded", "for={}")):
        few = ", ".join(map(written.format, ["192.0.2.1", *near]))
        many = ", ".join(map(written.format, ["192.0.2.1", "10.0.0.1", "10.0.0.1", *near]))
        assert told(**{name: few}).peer == ("192.0.2.1", 0)
        assert told(**{name: many}) == NOTHING_TOLD


def test_nor_does_a_string_full_of_commas() -> None:
    assert told(forwarded='for=192.0.2.1;x="' + "," * 20 + '"').peer == ("192.0.2.1", 0)
    assert told(forwarded='for=192.0.2.1;x="' + "," * MOST_COMMAS + '"') == NOTHING_TOLD
