"""What a worker says of its memory: how it is shown, and what is refused."""

import json
from typing import Any

import pytest

from clusterd.profiles.memory import BadReport, lines_of, parsed

pytestmark = pytest.mark.engine_independent

OURS = ["/x/clusterd/a.py", 1, ""]
LEAK = ["/srv/shop.py", 14, "LEAK.append(bytes(1000))"]
REPORT: dict[str, Any] = {
    "version": 1,
    "seconds": 10.0,
    "is_cut": False,
    "traced_by_application": False,
    "allocated": 3 << 20,
    "sites": [{"size": 2 << 20, "count": 2000, "stack": [LEAK, OURS, ["/srv/app.py", 3, "buy()"]]}],
    "objects": 52_000,
    "frozen": 30_000,
    "types": [["builtins.list", 9000, 0], ["shop.Order", 300, 120]],
    "private_bytes": [10 << 20, 12 << 20],
    "pss_bytes": [0, 0],
}


def read(**changes: Any) -> list[str]:
    return lines_of(parsed(json.dumps({**REPORT, **changes}).encode()))


def test_it_is_shown_with_what_grows_first() -> None:
    assert read() == [
        "private memory: 12.0 MiB (+2.0 MiB); with its share of what others use too: unknown",
        "",
        "allocated meanwhile and still in use: 3.0 MiB",
        "   2.0 MiB  in 2,000  /srv/shop.py:14  LEAK.append(bytes(1000))",
        "              from /srv/app.py:3  buy()",
        "",
        "objects with references to others: 52,000, and 30,000 that the garbage collector leaves out",
        "       count      change  type",
        "         300        +120  shop.Order",
        "       9,000          +0  builtins.list",
    ]


def test_it_says_that_it_ended_early() -> None:
    assert read(is_cut=True, seconds=1.25)[0] == "ended after 1.2 s, as so much was allocated"


def test_what_the_application_traces_itself_is_told_apart() -> None:
    lines = read(traced_by_application=True)
    assert "allocated since the application began to trace and still in use: 3.0 MiB" in lines


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"seconds": "x"},
        {"allocated": 1.5},
        {"sites": None},
        {"sites": [{"size": 1, "count": 1, "stack": []}]},
        {"sites": [{"size": 1, "count": 1, "stack": [["a", 1]]}]},
        {"sites": [{"size": 1, "count": True, "stack": [LEAK]}]},
        {"sites": [3]},
        {"sites": REPORT["sites"] * 201},
        {"types": [["a", 1]]},
        {"types": [[1, 1, 1]]},
        {"private_bytes": [1]},
        {"private_bytes": [1, 10**20]},
    ],
)
def test_what_is_no_report_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadReport):
        read(**changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 100_000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadReport):
        parsed(data)
