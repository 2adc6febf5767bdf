"""What the memory of a worker is used for, as a worker has written it, and as it is shown. It is not trusted."""

import json
from typing import Any, Final

from clusterd.records import dataclass

VERSION: Final = 1
MOST: Final = 10**15
MOST_ROWS: Final = 200
MOST_CHARACTERS: Final = 300


class BadReport(ValueError):
    """What a worker has sent is no report of its memory. The text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of code; its text is empty if it cannot be read."""

    path: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    """What was allocated in one line and is still in use. `stack` has allocated most of it; the line is the first."""

    size: int
    count: int
    stack: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Type:
    """The objects of a type, and how many there are more than before."""

    name: str
    count: int
    change: int


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Of one worker."""

    seconds: float
    is_cut: bool
    """It ended before its time, as so much was allocated."""
    traced_by_application: bool
    """The application traces its allocations itself: the sites are of all that it has traced."""
    allocated: int
    sites: tuple[Site, ...]
    objects: int
    frozen: int
    """Objects that the garbage collector does not look at (gc.freeze)."""
    types: tuple[Type, ...]
    private_bytes: tuple[int, int]
    """Before and after; 0 if unknown."""
    pss_bytes: tuple[int, int]


def parsed(data: bytes) -> MemoryReport:
    """Return the report in what a worker has written. Raises BadReport."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadReport(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise BadReport("it is no document of this version")
    try:
        return MemoryReport(
            seconds=float(_number(document["seconds"])),
            is_cut=bool(document["is_cut"]),
            traced_by_application=bool(document["traced_by_application"]),
            allocated=_whole(document["allocated"]),
            sites=tuple(_site(each) for each in _list(document["sites"])),
            objects=_whole(document["objects"]),
            frozen=_whole(document["frozen"]),
            types=tuple(_type(each) for each in _list(document["types"])),
            private_bytes=_pair(document["private_bytes"]),
            pss_bytes=_pair(document["pss_bytes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadReport(f"a part of it is missing or wrong: {error!r}"[:MOST_CHARACTERS]) from error


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -MOST <= value <= MOST:
        raise ValueError(value)
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int or not -MOST <= value <= MOST:
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:MOST_CHARACTERS]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST_ROWS:
        raise TypeError("a list")
    return value


def _pair(value: Any) -> tuple[int, int]:
    before, after = _list(value)
    return _whole(before), _whole(after)


def _site(value: Any) -> Site:
    lines = tuple(_line(*each) for each in _list(value["stack"]))
    if not lines:
        raise ValueError("a stack without lines")
    return Site(_whole(value["size"]), _whole(value["count"]), lines)


def _line(path: Any, number: Any, text: Any) -> Line:
    return Line(_text(path), _whole(number), _text(text))


def _type(value: Any) -> Type:
    name, count, change = _list(value)
    return Type(_text(name), _whole(count), _whole(change))


# ---- for people

SHOWN_SITES: Final = 15
SHOWN_TYPES: Final = 15
SHOWN_CALLERS: Final = 3


def lines_of(report: MemoryReport) -> list[str]:
    """Return the report as lines of text. Control characters are still in them."""
    private = _change(report.private_bytes)
    since = "since the application began to trace" if report.traced_by_application else "meanwhile"
    cut = [f"ended after {report.seconds:.1f} s, as so much was allocated"] if report.is_cut else []
    lines = [
        *cut,
        f"private memory: {private}; with its share of what others use too: {_change(report.pss_bytes)}",
        "",
        f"allocated {since} and still in use: {_bytes(report.allocated)}",
    ]
    for site in report.sites[:SHOWN_SITES]:
        first, *callers = site.stack
        lines.append(f"{_bytes(site.size):>10}  in {site.count:,}  {first.path}:{first.number}  {first.text}".rstrip())
        lines += [f"{'':10}    from {line.path}:{line.number}  {line.text}".rstrip() for line in _shown(callers)]
    frozen = f", and {report.frozen:,} that the garbage collector leaves out" if report.frozen else ""
    lines += ["", f"objects with references to others: {report.objects:,}{frozen}"]
    lines.append(f"{'count':>12}{'change':>12}  type")
    lines += [f"{each.count:>12,}{each.change:>+12,}  {each.name}" for each in _types(report)]
    return lines


def _shown(callers: list[Line]) -> list[Line]:
    """The callers, without those in clusterd, which are the same for all requests."""
    return [line for line in callers if "/clusterd/" not in line.path][:SHOWN_CALLERS]


def _types(report: MemoryReport) -> list[Type]:
    """First what has grown, then what there is most of."""
    grown = sorted((each for each in report.types if each.change > 0), key=lambda each: -each.change)
    most = sorted(report.types, key=lambda each: -each.count)
    return list(dict.fromkeys([*grown[: SHOWN_TYPES // 2], *most]))[:SHOWN_TYPES]


def _change(sizes: tuple[int, int]) -> str:
    before, after = sizes
    if not after:
        return "unknown"
    return f"{_bytes(after)} ({'+' if after >= before else '-'}{_bytes(abs(after - before))})"


def _bytes(number: int) -> str:
    if abs(number) < 1 << 20:
        return f"{number / 1024:.1f} KiB"
    return f"{number / (1 << 20):.1f} MiB"
