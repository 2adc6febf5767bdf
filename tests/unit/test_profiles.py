"""What is made of profiles: flame graphs, files for speedscope, collapsed stacks. And what is refused as none."""

import json
import re
import xml.etree.ElementTree as ET
import zlib
from random import Random
from typing import Any

import pytest

from clusterd.profiles import profile as profiles
from clusterd.profiles.collapsed import collapsed
from clusterd.profiles.flamegraph import flamegraph
from clusterd.profiles.profile import BadProfile, Frame, Profile, View, decompressed, hottest, of_dumps, parsed
from clusterd.profiles.speedscope import speedscope

pytestmark = pytest.mark.engine_independent

MAIN, SERVE, BUY, PAY = Frame("MainThread"), Frame("serve", "/s.py", 1), Frame("buy", "/shop.py", 7), Frame("pay")
SVG = "{http://www.w3.org/2000/svg}"
NASTY = ["<b>&\"'", "a;b 1", "]]>", "\x1b[31m", "\x00", "\ud800", "\ufffe", "ab\ncd", "名前", "x" * 400, ""]


def made(*stacks: tuple[View, tuple[Frame, ...], int]) -> Profile:
    profile = Profile(seconds=10.0, looks=1000)
    for view, stack, microseconds in stacks:
        profile.views[view][stack] += microseconds
    return profile


SHOP = made(
    (View.PROCESSOR, (MAIN, SERVE, BUY), 3_000_000),
    (View.PROCESSOR, (MAIN, SERVE), 1_000_000),
    (View.TASKS, (SERVE, PAY), 9_000_000),
)


def random_profile(random: Random) -> Profile:
    profile = Profile(seconds=1.0, looks=random.randrange(100), cut=random.randrange(2), dumps=random.randrange(2))
    for _ in range(random.randrange(1, 60)):
        frames = [
            Frame(random.choice(NASTY), random.choice(NASTY), random.randrange(3))
            for _ in range(random.randrange(1, 9))
        ]
        profile.views[random.choice(list(View))][tuple(frames)] += random.randrange(1, 10**6)
    return profile


def boxes(svg: str) -> list[tuple[str, float, float]]:
    """The name, the place and the width of each box."""
    root = ET.fromstring(svg)
    return [
        (str(box.get("data-name")), float(box.get("data-x", "")), float(box.get("data-w", "")))
        for box in root.iter(f"{SVG}g")
        if box.get("class") == "box"
    ]


def test_a_box_of_the_flame_graph_is_as_wide_as_its_time() -> None:
    assert boxes(flamegraph(SHOP, "worker 1")) == [
        ("MainThread", 0.0, 1200.0),
        ("serve", 0.0, 1200.0),
        ("buy", 0.0, 900.0),
        ("serve", 0.0, 1200.0),
        ("pay", 0.0, 1200.0),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_a_flame_graph_is_one_document_of_xml_whatever_functions_are_called(seed: int) -> None:
    profile = random_profile(Random(seed))
    svg = flamegraph(profile, "".join(NASTY))
    root = ET.fromstring(svg.encode())
    titles = [each.text for each in root.iter(f"{SVG}text") if each.get("class") == "view"]
    assert len(titles) == 1 + len(list(profile.shown()))
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|href|@import|url\(", svg)
    for _, x, width in boxes(svg):
        assert x >= 0 and x + width <= 1200.1


def test_a_flame_graph_of_nothing_says_so() -> None:
    assert boxes(flamegraph(Profile(), "worker 1")) == []


def check_speedscope(document: dict[str, Any]) -> None:
    """What the schema of the format demands of a file with sampled profiles."""
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert document.keys() <= {"$schema", "profiles", "shared", "name", "activeProfileIndex", "exporter"}
    frames = document["shared"]["frames"]
    for frame in frames:
        assert isinstance(frame["name"], str)
        assert frame.keys() <= {"name", "file", "line", "col"}
        assert isinstance(frame.get("line", 1), int) and isinstance(frame.get("file", ""), str)
    for profile in document["profiles"]:
        assert profile.keys() == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert profile["type"] == "sampled"
        assert profile["unit"] in ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes")
        assert len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
        for stack in profile["samples"]:
            assert all(type(number) is int and 0 <= number < len(frames) for number in stack)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_for_speedscope_is_as_its_schema_says(seed: int) -> None:
    profile = random_profile(Random(seed))
    document = json.loads(speedscope(profile, "worker 1"))
    check_speedscope(document)
    assert [each["name"] for each in document["profiles"]] == [view.value for view in profile.shown()]
    frames = document["shared"]["frames"]
    assert len({json.dumps(frame) for frame in frames}) <= len(frames)


def test_a_file_for_speedscope_has_the_stacks_from_the_outside_in() -> None:
    document = json.loads(speedscope(SHOP, "worker 1"))
    profile, frames = document["profiles"][0], document["shared"]["frames"]
    stacks = [[frames[number]["name"] for number in stack] for stack in profile["samples"]]
    assert dict(zip(map(tuple, stacks), profile["weights"], strict=True)) == {
        ("MainThread", "serve"): 1_000_000,
        ("MainThread", "serve", "buy"): 3_000_000,
    }
    assert {"name": "buy", "file": "/shop.py", "line": 7} in frames


def test_collapsed_stacks_are_a_line_each() -> None:
    assert collapsed(SHOP).splitlines() == [
        "processor time of threads;MainThread;serve (/s.py:1) 1000000",
        "processor time of threads;MainThread;serve (/s.py:1);buy (/shop.py:7) 3000000",
        "elapsed time of tasks;serve (/s.py:1);pay 9000000",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_name_breaks_a_line_of_collapsed_stacks(seed: int) -> None:
    profile = random_profile(Random(seed))
    lines = collapsed(profile).split("\n")[:-1]
    stacks = [stack for view in profile.shown() for stack, _ in profile.stacks(view)]
    assert [line.count(";") for line in lines] == [len(stack) for stack in stacks]
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == sum(profile.total(view) for view in View)


def test_the_hottest_functions_are_those_with_most_time_of_their_own() -> None:
    assert [(each.frame, each.share) for each in hottest(SHOP, View.PROCESSOR, 1)] == [(BUY, 0.75)]


def test_the_profiles_of_several_workers_are_added() -> None:
    whole = Profile()
    whole.add(SHOP)
    whole.add(SHOP)
    assert (whole.seconds, whole.looks, whole.total(View.PROCESSOR)) == (10.0, 2000, 8_000_000)


DUMP = """\
Thread 0x00007f4 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait
  File "/app/shop.py", line 7 in buy

Current thread 0x00007f5 (most recent call first):
  File "/app/shop.py", line 9 in <module>
"""


def test_stacks_that_were_written_at_signals_count_for_a_tenth_of_a_second_each() -> None:
    profile = of_dumps(DUMP * 3)
    assert (profile.dumps, round(profile.seconds, 3)) == (3, 0.3)
    assert {tuple(frame.label for frame in stack): time for stack, time in profile.views[View.THREADS].items()} == {
        ("a thread, by signals", "buy (/app/shop.py)", "wait (/usr/lib/python3.11/threading.py)"): 300_000,
        ("a thread, by signals", "<module> (/app/shop.py)"): 300_000,
    }


@pytest.mark.parametrize("seed", range(40))
def test_a_text_that_is_cut_or_garbled_does_no_harm(seed: int) -> None:
    random = Random(seed)
    text = list(DUMP * 3)
    for _ in range(random.randrange(50)):
        text[random.randrange(len(text))] = random.choice(["\n", "(", "\x00", "\ud800", "Thread 0x1"])
    flamegraph(of_dumps("".join(text)[: random.randrange(len(text))]), "worker 1")


GOOD: dict[str, Any] = {
    "version": 1,
    "seconds": 1.5,
    "looks": 3,
    "trees": [
        {"frames": [["threads", "", 0], ["MainThread", "", 0]], "nodes": [[-1, 0, 0, 0], [0, 1, 5, 2]], "cut": 0},
    ],
}


def test_what_every_worker_has_called_before_it_serves_is_left_out() -> None:
    boot = ["boot_worker", "/opt/clusterd/worker/boot.py", 3]
    tree = {
        "frames": [["threads", "", 0], ["MainThread", "", 0], boot, ["serve", "/x.py", 1]],
        "nodes": [[-1, 0, 0, 0], [0, 1, 0, 0], [1, 2, 0, 0], [2, 3, 9, 0]],
        "cut": 0,
    }
    ((stack, _),) = parsed(json.dumps({**GOOD, "trees": [tree]}).encode()).views[View.THREADS].items()
    assert [frame.name for frame in stack] == ["MainThread", "serve"]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"seconds": "1"},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"looks": -1},
        {"looks": True},
        {"trees": None},
        {"trees": [GOOD["trees"][0]] * 9},
        {"trees": [1]},
        {"trees": [{**GOOD["trees"][0], "frames": [["threads", "", "0"]]}]},
        {"trees": [{**GOOD["trees"][0], "frames": None}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[0, 0, 0, 0]]}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[-1, 2, 0, 0]]}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[-1, 0, 10**20, 0]]}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[-1, 1, 0, 0]]}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[-1, 0, 0]]}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[-1, 0, 0, 0]] * 20_001}]},
        {"trees": [{**GOOD["trees"][0], "nodes": [[each - 1, 0, 0, 0] for each in range(500)]}]},
    ],
)
def test_what_is_no_profile_is_refused(changes: dict[str, Any]) -> None:
    parsed(json.dumps(GOOD).encode())
    with pytest.raises(BadProfile):
        parsed(json.dumps({**GOOD, **changes}).encode())


@pytest.mark.parametrize("data", [b"", b"[", b"[]", b"1", b"[" * 100_000, b'{"version": ' + b"9" * 5000 + b"}"])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadProfile):
        parsed(data)


def test_what_would_fill_the_memory_is_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "MOST_DOCUMENT_BYTES", 1000)
    assert decompressed(zlib.compress(b"x" * 1000)) == b"x" * 1000
    with pytest.raises(BadProfile, match="larger than 1000 bytes"):
        decompressed(zlib.compress(b"x" * 100_000))
    with pytest.raises(BadProfile, match="cannot be decompressed"):
        decompressed(b"nothing compressed")
