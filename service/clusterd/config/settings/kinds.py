"""The kinds of values of settings: how each is parsed, described, written back, and expressed in JSON Schema."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from clusterd.config.model import JSON
from clusterd.records import dataclass

DURATION_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_DURATION = r"[0-9]+(\.[0-9]+)?(ms|s|m|h)"
_SIZE = r"(0|[1-9][0-9]*)[KMGT]?"
_MODE = r"0[0-7]{3}"
_LONGEST_NUMBER = 18
_Number = TypeVar("_Number", int, Fraction)


class Refusal(Exception):
    """A value is not of its kind. The text is a hint on what to write, or empty if the rule says enough."""


class CoreType(StrEnum):
    """The type that YAML 1.2's core schema gives to a scalar."""

    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"


_TEXT = frozenset({CoreType.TEXT})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of values.

    `allowed` completes the sentence "must be ...". `read` converts a text to the value; its second argument is the
    directory that paths are relative to. It raises Refusal. `json_schema` (draft 7) describes the value in YAML, and
    `types` are the YAML types it may have (the value of a flag is always text). `write` returns a value as a file may
    contain it.
    """

    allowed: str
    read: Callable[[str, str], Any]
    json_schema: Mapping[str, JSON]
    types: frozenset[CoreType] = _TEXT
    write: Callable[[Any], JSON] = str
    parts: "Parts | None" = None
    """How the value is given as keys and values; None if it cannot be."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a value: the kind of each, the texts of those that may be left out, and what makes one of them.

    `join` is given a value for each part. It raises Refusal if they contradict each other.
    """

    kinds: Mapping[str, Kind]
    defaults: Mapping[str, str]
    join: Callable[[Mapping[str, Any]], Any]


def text(
    allowed: str, pattern: str, check: Callable[[str], None] | None = None, also: CoreType = CoreType.TEXT
) -> Kind:
    """Text of the form `pattern`.

    `check` raises Refusal with a hint for common mistakes. `also` is another type that YAML gives to some such texts.
    """

    def read(written: str, _base: str) -> str:
        if check is not None:
            check(written)
        if not re.fullmatch(pattern, written):
            raise Refusal
        return written

    schema: dict[str, JSON] = {"type": "string", "pattern": f"^(?:{pattern})$"}
    if also is not CoreType.TEXT:
        schema = {"anyOf": [schema, {"type": also.value}]}
    return Kind(allowed, read, schema, _TEXT | {also})


def file_mode() -> Kind:
    """The permissions of a file in octal, as in chmod(1)."""

    def read(written: str, _base: str) -> int:
        if not re.fullmatch(_MODE, written):
            raise Refusal("write four digits, such as 0660")
        return int(written, 8)

    # YAML 1.2 takes the text 0660 for a number. The text as it is written counts.
    number: JSON = {"type": "integer", "minimum": 0, "maximum": 777}
    schema: dict[str, JSON] = {"anyOf": [number, {"type": "string", "pattern": f"^{_MODE}$"}]}
    return Kind("a mode from 0000 to 0777", read, schema, _TEXT | {CoreType.NUMBER}, "{:04o}".format)


def choice(words: type[StrEnum]) -> Kind:
    """One of a few words."""
    known = [word.value for word in words]
    booleans: dict[str, JSON] = {"true": True, "false": False}
    # Unquoted, YAML takes such a word for a number. Both forms are accepted.
    numbers: list[JSON] = [float(word) for word in known if re.fullmatch(r"[0-9]+\.[0-9]+", word)]
    types = _TEXT | ({CoreType.BOOLEAN} if booleans.keys() & set(known) else set())
    types |= {CoreType.NUMBER} if numbers else set()

    def read(written: str, _base: str) -> StrEnum:
        if written in known:
            return words(written)
        lowered = written.lower()
        raise Refusal(f"write {lowered}" if lowered in known else "")

    return Kind(_one_of(known), read, {"enum": [*(booleans.get(word, word) for word in known), *numbers]}, types)


def whole_number(least: int, most: int) -> Kind:
    """A count within bounds."""

    def read(written: str, _base: str) -> int:
        if re.fullmatch(r"0[0-9]+", written):
            # The text 0660 means 432 in YAML 1.1 and 660 in YAML 1.2.
            raise Refusal("without leading zeros, which may or may not mean octal")
        if not re.fullmatch(r"-?[0-9]+", written) or len(written) > _LONGEST_NUMBER:
            raise Refusal
        return _within(int(written), least, most)

    schema: dict[str, JSON] = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(f"a whole number from {least} to {most}", read, schema, frozenset({CoreType.NUMBER}), int)


def duration(least: str, most: str) -> Kind:
    """A duration within bounds, which are written like the setting itself. The value is in seconds."""

    def read(written: str, _base: str) -> float:
        return float(_within(_seconds(written), _seconds(least), _seconds(most)))

    schema: dict[str, JSON] = {"type": "string", "pattern": f"^{_DURATION}$"}
    return Kind(f"a duration from {least} to {most}", read, schema, write=_duration_text)


def size(least: str, most: str, zero: str = "") -> Kind:
    """A number of bytes within bounds. 0 is also allowed if `zero` says what it means."""

    def read(written: str, _base: str) -> int:
        count = _bytes(written)
        return count if zero and count == 0 else _within(count, _bytes(least), _bytes(most))

    number: JSON = {"type": "integer", "minimum": 0 if zero else _bytes(least), "maximum": _bytes(most)}
    schema: dict[str, JSON] = {"anyOf": [number, {"type": "string", "pattern": f"^{_SIZE}$"}]}
    allowed = f"a size from {least} to {most}{f', or 0 for {zero}' if zero else ''}"
    return Kind(allowed, read, schema, _TEXT | {CoreType.NUMBER}, _size_text)


def either(kind: Kind, word: str) -> Kind:
    """A value of `kind`, or one word (off, auto, null) that stands for no value (None)."""
    is_null = word == "null"

    def read(written: str, base: str) -> Any:
        if written == word:
            return None
        if written.lower() == word or (word == "off" and written.lower() in ("false", "no", "none", "null")):
            raise Refusal(f"write {word}")
        return kind.read(written, base)

    def write(value: Any) -> JSON:
        if value is None:
            return None if is_null else word
        return kind.write(value)

    absent: JSON = {"type": "null"} if is_null else {"const": word}
    schema: dict[str, JSON] = {"anyOf": [absent, dict(kind.json_schema)]}
    types = kind.types | {CoreType.NULL if is_null else CoreType.TEXT}
    return Kind(f"{kind.allowed}, or {word}", read, schema, types, write)


def _one_of(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _within(number: _Number, least: _Number, most: _Number) -> _Number:
    """Return the number. A number out of bounds is refused and never adjusted."""
    if not least <= number <= most:
        raise Refusal("too small" if number < least else "too large")
    return number


def _seconds(written: str) -> Fraction:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)( *)([A-Za-z]*)", written)
    if match is None or len(written) > _LONGEST_NUMBER:
        raise Refusal("write a number and a unit, like 500ms, 5s or 2m")
    number, space, unit = match.groups()
    if not unit:
        raise Refusal(f"the unit is missing: write {number}s")
    if unit not in DURATION_UNITS or space:
        raise Refusal(f"the units are {_one_of(list(DURATION_UNITS))}, right behind the number, as in {number}s")
    return Fraction(number) * DURATION_UNITS[unit]


def _bytes(written: str) -> int:
    if not re.fullmatch(_SIZE, written) or len(written) > _LONGEST_NUMBER:
        meant = re.fullmatch(r"([1-9][0-9]*) *([KMGT])(i?B)?", written, re.IGNORECASE)
        if meant is not None:
            raise Refusal(f"write {meant[1]}{meant[2].upper()}")
        raise Refusal("write a whole number and, if need be, a unit that counts in 1024: 65536, 64K, 16M, 2G or 1T")
    unit = written.lstrip("0123456789")
    return int(written.removesuffix(unit)) * SIZE_UNITS[unit]


def _duration_text(seconds: float) -> str:
    """Write the duration in the largest unit that leaves no fraction."""
    exact = Fraction(repr(seconds))
    if not exact:
        return "0s"
    counts = {unit: exact / size for unit, size in DURATION_UNITS.items()}
    whole = [f"{count}{unit}" for unit, count in counts.items() if count.denominator == 1]
    return whole[-1] if whole else f"{Decimal(repr(seconds)):f}s"


def _size_text(count: int) -> JSON:
    """Write the size in the largest unit that leaves no fraction."""
    whole = [(count // size, unit) for unit, size in SIZE_UNITS.items() if count and count % size == 0]
    number, unit = whole[-1] if whole else (0, "")
    return f"{number}{unit}" if unit else number
