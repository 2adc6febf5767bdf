"""The kinds of values that settings have: how each is read from text, described, and written in JSON Schema."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from clusterd.config.address import Address
from clusterd.config.model import JSON

DURATION_UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
DURATION_PATTERN = r"[0-9]+(\.[0-9]+)?(ms|s|m|h)"
SIZE_PATTERN = r"(0|[1-9][0-9]*)[KMGT]?"
_MOST_DIGITS = 18
Number = TypeVar("Number", int, Fraction)


class Refusal(Exception):
    """A value is not of its kind; the text is a hint on what to write, or empty when the rule says it all."""


class CoreType(StrEnum):
    """What YAML 1.2's core schema takes a scalar for."""

    NULL = "null"
    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Kind(ABC):
    """What all kinds are."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, to complete "must be ..."."""

    @property
    def types(self) -> frozenset[CoreType]:
        """How a value may be written in YAML; a flag's is always text."""
        return frozenset({CoreType.TEXT})

    @abstractmethod
    def read(self, text: str, base: str) -> Any:
        """The value that `text` stands for; paths are relative to the directory `base`. Raises Refusal."""

    @abstractmethod
    def json_schema(self) -> dict[str, JSON]:
        """The JSON Schema (draft 7) of the value as it is written in YAML."""


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Text that `check` accepts: it raises Refusal, and `pattern` tells editors the same as well as it can."""

    allowed_text: str
    pattern: str
    check: Callable[[str], None] | None = None

    @property
    def allowed(self) -> str:
        return self.allowed_text

    def read(self, text: str, base: str) -> str:
        if self.check is not None:
            self.check(text)
        if not re.fullmatch(self.pattern, text):
            raise Refusal
        return text

    def json_schema(self) -> dict[str, JSON]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class FilePath(Kind):
    """A path, made absolute against `base`; symbolic links and `..` stay as they are, as they may change meaning."""

    @property
    def allowed(self) -> str:
        return "a path"

    def read(self, text: str, base: str) -> str:
        if not text:
            raise Refusal
        if text.startswith("~"):
            raise Refusal("~ is not expanded: write the whole path")
        return joined(base, text)

    def json_schema(self) -> dict[str, JSON]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words. `later` names words that another version knows, with what to say of them."""

    words: type[StrEnum]
    later: Mapping[str, str]

    @property
    def allowed(self) -> str:
        return one_of([word.value for word in self.words])

    @property
    def types(self) -> frozenset[CoreType]:
        boolean = {CoreType.BOOLEAN} if {"true", "false"} & set(self.words) else set()
        return frozenset({CoreType.TEXT, *boolean})

    def read(self, text: str, base: str) -> StrEnum:
        if text in self.later:
            raise Refusal(self.later[text])
        try:
            return self.words(text)
        except ValueError:
            lowered = text.lower()
            raise Refusal(f"write {lowered}" if lowered in set(self.words) else "") from None

    def json_schema(self) -> dict[str, JSON]:
        booleans: dict[str, JSON] = {"true": True, "false": False}
        return {"enum": [booleans.get(word.value, word.value) for word in self.words]}


@dataclass(frozen=True, slots=True)
class WholeNumber(Kind):
    """A count within bounds."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    @property
    def types(self) -> frozenset[CoreType]:
        return frozenset({CoreType.NUMBER})

    def read(self, text: str, base: str) -> int:
        if re.fullmatch(r"0[0-9]+", text):
            # 0660 is 432 in YAML 1.1 and 660 in YAML 1.2.
            raise Refusal("without leading zeros, which may or may not mean octal")
        if not re.fullmatch(r"[0-9]+", text) or len(text) > _MOST_DIGITS:
            raise Refusal
        return within(int(text), self.least, self.most)

    def json_schema(self) -> dict[str, JSON]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """A length of time within bounds, which are written as the setting is; its value is in seconds."""

    least: str
    most: str

    @property
    def allowed(self) -> str:
        return f"a duration from {self.least} to {self.most}"

    def read(self, text: str, base: str) -> float:
        return float(within(_seconds(text), _seconds(self.least), _seconds(self.most)))

    @property
    def types(self) -> frozenset[CoreType]:
        # Numbers come this far so that the hint can say what they lack.
        return frozenset({CoreType.TEXT, CoreType.NUMBER})

    def json_schema(self) -> dict[str, JSON]:
        return {"type": "string", "pattern": f"^{DURATION_PATTERN}$"}


@dataclass(frozen=True, slots=True)
class Size(Kind):
    """A number of bytes within bounds, or 0 for no limit where `zero` says what that means."""

    least: str
    most: str
    zero: str = ""

    @property
    def allowed(self) -> str:
        return f"a size from {self.least} to {self.most}{f', or 0 for {self.zero}' if self.zero else ''}"

    @property
    def types(self) -> frozenset[CoreType]:
        return frozenset({CoreType.TEXT, CoreType.NUMBER})

    def read(self, text: str, base: str) -> int:
        size = _bytes(text)
        return size if self.zero and size == 0 else within(size, _bytes(self.least), _bytes(self.most))

    def json_schema(self) -> dict[str, JSON]:
        least = 0 if self.zero else _bytes(self.least)
        number: JSON = {"type": "integer", "minimum": least, "maximum": _bytes(self.most)}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{SIZE_PATTERN}$"}]}


@dataclass(frozen=True, slots=True)
class ListenAddress(Kind):
    """Where to listen."""

    @property
    def allowed(self) -> str:
        return "an address: host:port, [v6]:port or unix:/path"

    def read(self, text: str, base: str) -> Address:
        path = text.removeprefix("unix:")
        absolute = path != text and path and not path.startswith(("/", "@"))
        try:
            return Address.parse(f"unix:{joined(base, path)}" if absolute else text)
        except ValueError as error:
            raise Refusal(str(error)) from error

    def json_schema(self) -> dict[str, JSON]:
        return {"type": "string", "pattern": r"^(unix:.*[^/]|\[[^\]]+\]:[0-9]{1,5}|[^:/]+:[0-9]{1,5})$"}


@dataclass(frozen=True, slots=True)
class Or(Kind):
    """Another kind, or one word that stands for the absence of a value (None): off, auto, null."""

    kind: Kind
    word: str

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed}, or {self.word}"

    @property
    def types(self) -> frozenset[CoreType]:
        return self.kind.types | {CoreType.NULL if self.word == "null" else CoreType.TEXT}

    def read(self, text: str, base: str) -> Any:
        if text == self.word:
            return None
        if text.lower() == self.word:
            raise Refusal(f"write {self.word}")
        return self.kind.read(text, base)

    def json_schema(self) -> dict[str, JSON]:
        word: dict[str, JSON] = {"type": "null"} if self.word == "null" else {"const": self.word}
        return {"anyOf": [word, self.kind.json_schema()]}


def joined(base: str, path: str) -> str:
    """`path` made absolute against `base`, without looking at the file system or undoing `..` behind a link."""
    if path.startswith("/"):
        return path
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return base if path in ("", ".") else f"{base.rstrip('/')}/{path}"


def one_of(words: list[str]) -> str:
    """The words as an enumeration in a sentence."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def within(number: Number, least: Number, most: Number) -> Number:
    """The number, refused when it is out of bounds: never quietly moved into them."""
    if not least <= number <= most:
        raise Refusal("too small" if number < least else "too large")
    return number


def _seconds(text: str) -> Fraction:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text)
    if match is None or len(text) > _MOST_DIGITS:
        raise Refusal("write a number and a unit, like 500ms, 5s or 2m")
    number, unit = match.groups()
    if not unit:
        raise Refusal(f"the unit is missing: write {number}s")
    if unit not in DURATION_UNITS or " " in text:
        raise Refusal(f"the units are {one_of(list(DURATION_UNITS))}, right behind the number: 500ms, 5s, 2m")
    return Fraction(number) * DURATION_UNITS[unit]


def _bytes(text: str) -> int:
    match = re.fullmatch(SIZE_PATTERN, text)
    if match is None or len(text) > _MOST_DIGITS:
        raise Refusal("write a whole number and, if need be, a unit: 65536, 64K, 16M, 2G or 1T")
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * SIZE_UNITS[unit]
