"""Parses the part of YAML that a configuration needs: mappings, lists and scalars, each with its place.

It is built from PyYAML's events and not from its constructors. So a file cannot create an object, anchors cannot
expand exponentially, and every problem has a line and a column. It also avoids PyYAML's YAML 1.1 rules, which give
`off`, `NO`, `1:30` and `0660` surprising values. A scalar has the type of YAML 1.2's core schema
(yaml.org/spec/1.2.2, section 10.3.2).
"""

import re
from collections.abc import Iterator
from dataclasses import field
from enum import Enum, auto
from typing import Never, Protocol, TypeAlias

import yaml

from clusterd.config.reading.problems import ConfigError, Place, Problem, quoted, shown_key
from clusterd.config.settings.kinds import CoreType
from clusterd.records import dataclass

DEEPEST = 8
"""Levels of nesting. No setting needs four, and a hostile file is refused before it costs time or memory."""


class _Mark(Protocol):
    line: int
    column: int


class Written(Enum):
    """How a scalar was written."""

    PLAIN = auto()
    QUOTED = auto()
    FLAG = auto()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single uninterpreted value. `base` is the directory that paths in it are relative to."""

    text: str
    written: Written
    place: Place
    base: str

    @property
    def core_type(self) -> CoreType:
        """Return the type of the value by YAML 1.2's core schema. The value of a flag is always text."""
        if self.written is not Written.PLAIN:
            return CoreType.TEXT
        return next((name for name, pattern in _CORE_TYPES if pattern.fullmatch(self.text)), CoreType.TEXT)

    def __str__(self) -> str:
        match self.core_type:
            case CoreType.NULL:
                return "nothing" if not self.text else "null"
            case CoreType.BOOLEAN | CoreType.NUMBER:
                return self.text
            case _:
                return quoted(self.text)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    place: Place

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value."""

    key: str
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values. A duplicate key appears once and is reported as a problem."""

    entries: tuple[Entry, ...]
    place: Place

    def __str__(self) -> str:
        return "a section (keys and values)"


Node: TypeAlias = Scalar | Sequence | Mapping

_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_CORE_TYPES = (
    (CoreType.NULL, re.compile(r"null|Null|NULL|~|")),
    (CoreType.BOOLEAN, re.compile(r"true|True|TRUE|false|False|FALSE")),
    (
        CoreType.NUMBER,
        re.compile(
            r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
            r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
    ),
)


def parse_document(text: str, source: str, base: str, problems: list[Problem]) -> Mapping | None:
    """Return the top-level mapping of a YAML text, or None if the text is empty.

    Adds to `problems` what can be reported together with others. Raises ConfigError if reading cannot continue.
    """
    return _Composer(source, base, problems).document(text)


@dataclass(slots=True)
class _Composer:
    source: str
    base: str
    problems: list[Problem]
    path: list[str] = field(default_factory=list)

    def document(self, text: str) -> Mapping | None:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        try:
            return self._only_document(events)
        except yaml.MarkedYAMLError as error:
            self._refuse_syntax(_place(error.problem_mark, self.source), _explained(error), _advice(error))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
            found = f"the character {chr(error.character)!r} is not allowed in YAML"
            self._refuse_syntax(
                Place(self.source, line, column), found, "remove it, or write it as \\x.. in double quotes"
            )
        except (ValueError, OverflowError):
            # PyYAML passes the digits of an escape such as "\UFFFFFFFF" to chr() without a check.
            self._refuse_syntax(
                Place(self.source), "this is not YAML: an escape stands for no character", "look for \\U"
            )

    def _only_document(self, events: Iterator[yaml.Event]) -> Mapping | None:
        next(events)  # StreamStart
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        root = self._node(next(events), events)
        next(events)  # DocumentEnd
        following = next(events)
        if not isinstance(following, yaml.StreamEndEvent):
            hint = "all settings belong in one document, without ---"
            self._refuse(self._place(following), "a second document starts here", hint)
        if isinstance(root, Scalar) and root.core_type is CoreType.NULL:
            return None
        if not isinstance(root, Mapping):
            self._refuse(root.place, f"found {root} where settings were expected", "write a key, a colon and a value")
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event]) -> Node:
        place = self._place(event)
        self._refuse_indirection(event)
        if isinstance(event, yaml.ScalarEvent):
            if _UNUSABLE.search(event.value):
                self._refuse(place, "a NUL or half a surrogate pair cannot be part of a setting")
            return Scalar(event.value, Written.QUOTED if event.style else Written.PLAIN, place, self.base)
        if len(self.path) >= DEEPEST:
            self._refuse(place, f"nested deeper than {DEEPEST} levels")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place, events)
        return self._mapping(place, events)

    def _refuse_indirection(self, event: yaml.Event) -> None:
        place, tag = self._place(event), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            found = "anchors (&name) and aliases (*name) are not supported"
            self._refuse(place, found, "write the value out, or quote the text")
        if tag is not None:
            self._refuse(place, f"the tag {quoted(tag)} is not supported", "leave it out, or quote the text")

    def _sequence(self, place: Place, events: Iterator[yaml.Event]) -> Sequence:
        items: list[Node] = []
        self.path.append("")
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            self.path[-1] = f"[{len(items)}]"
            items.append(self._node(event, events))
        self.path.pop()
        return Sequence(tuple(items), place)

    def _mapping(self, place: Place, events: Iterator[yaml.Event]) -> Mapping:
        entries: dict[str, Entry] = {}
        self.path.append("")
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            self._refuse_indirection(event)
            if not isinstance(event, yaml.ScalarEvent):
                hint = "text that starts with { or [ needs quotes"
                self._refuse(self._place(event), "found a list or section where a key was expected", hint)
            self.path[-1] = shown_key(event.value)
            key = Entry(event.value, self._place(event), self._node(next(events), events))
            if (first := entries.get(key.key)) is not None:
                hint = f"it is already in line {first.place.line}: keep one of them"
                self.problems.append(Problem(key.place, self._key(), "given twice", hint=hint))
            entries.setdefault(key.key, key)
        self.path.pop()
        return Mapping(tuple(entries.values()), place)

    def _place(self, event: yaml.Event) -> Place:
        return _place(event.start_mark, self.source)

    def _refuse(self, place: Place, found: str, hint: str = "") -> Never:
        raise ConfigError((*self.problems, Problem(place, self._key(), found, hint=hint)))

    def _refuse_syntax(self, place: Place, found: str, hint: str) -> Never:
        # The key is left out: the parser often notices the error several lines after the last key that it understood.
        raise ConfigError((*self.problems, Problem(place, "", found, hint=hint)))

    def _key(self) -> str:
        return ".".join(self.path).replace(".[", "[")


def _place(mark: _Mark | None, source: str) -> Place:
    return Place(source) if mark is None else Place(source, mark.line + 1, mark.column + 1)


def _explained(error: yaml.MarkedYAMLError) -> str:
    """Return PyYAML's message on one line, and the line in which the enclosing construct began."""
    began = error.context_mark
    since = f" (in what starts in line {began.line + 1})" if began and error.context else ""
    return f"this is not YAML: {' '.join(str(error.problem).split())}{since}"


def _advice(error: yaml.MarkedYAMLError) -> str:
    """Return the usual cause of the error."""
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "indent with spaces, never with tabs"
    if "mapping values are not allowed" in problem:
        return "quote text that contains ': ', and give the keys of a section the same indentation"
    if "expected <block end>" in problem or "could not find expected ':'" in problem:
        return "a missing colon, or an indentation that differs from the lines above"
    if "expected ',' or" in problem:
        return "inside brackets and braces, quote text with any of , ? : [ ] { } in it"
    if "cannot start any token" in problem:
        return "text that starts with this character needs quotes"
    return ""
