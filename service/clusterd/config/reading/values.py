"""Collects the values that a file and flags give to settings, and what is wrong with them."""

import re
from collections.abc import Sequence as SequenceOf
from dataclasses import field
from typing import Any

from clusterd.config.foreign import instead_of
from clusterd.config.reading.document import Entry, Mapping, Node, Scalar, Sequence, Written
from clusterd.config.reading.problems import Place, Problem, nearest, quoted, shown_key
from clusterd.config.reading.working_directory import working_directory
from clusterd.config.settings.application_settings import ENVIRONMENT_NAME, RESERVED_ENVIRONMENT
from clusterd.config.settings.kinds import CoreType, Kind, Parts, Refusal
from clusterd.config.settings.schema import BY_KEY, SECTIONS, SHORTHANDS, children
from clusterd.config.settings.setting import Setting, Shape
from clusterd.records import dataclass


@dataclass(slots=True)
class Values:
    """The settings by dotted key: `values` has the valid ones, `places` everything that was given, with sections."""

    problems: list[Problem]
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def take_section(self, section: Mapping, prefix: str = "") -> None:
        """Take the settings of a section of the file. `prefix` is its key with a dot, or empty for the whole file."""
        for entry in section.entries:
            key = f"{prefix}{entry.key}"
            # Only flags write a path with dots: `timeouts.drain: 5s` in a file is an unknown setting.
            if "." in entry.key or key not in BY_KEY | SECTIONS:
                self._unknown(key, prefix, entry)
            elif key in BY_KEY:
                self.places[key] = entry.value.place
                self._take(BY_KEY[key], entry.value)
            elif key in SHORTHANDS and not isinstance(entry.value, Mapping) and not _is_null(entry.value):
                self._take_shorthand(BY_KEY[SHORTHANDS[key]], key, entry)
            elif isinstance(entry.value, Mapping):
                self.places[key] = entry.place
                self.take_section(entry.value, f"{key}.")
            elif not _is_null(entry.value):  # a section whose lines are all comments is empty, which is allowed
                self.refuse(
                    entry.value.place,
                    key,
                    str(entry.value),
                    "a section (keys and values)",
                    _as_section(key, entry.value),
                )

    def take_flag(self, setting: Setting, texts: SequenceOf[str]) -> None:
        """Take the texts of a setting's flag. They override the file; for `environment`, each variable separately."""
        place, base = Place(setting.flag), working_directory()
        self.places[setting.key] = place
        scalars = tuple(Scalar(text, Written.FLAG, place, base) for text in texts)
        match setting.shape:
            case Shape.ONE:
                self.values[setting.key] = self._read(setting.kind, setting.key, scalars[-1])
            case Shape.LIST:
                self.values[setting.key] = tuple(self._read(setting.kind, setting.key, each) for each in scalars)
            case Shape.NAMED:
                named = dict(self.values.get(setting.key, {}))
                for text in texts:
                    name, equals, value = text.partition("=")
                    if not equals:
                        self.refuse(place, setting.key, quoted(text), setting.metavar)
                    elif self._is_good_name(name, setting.key, place):
                        named[name] = value
                self.values[setting.key] = named

    def refuse(self, place: Place, key: str, found: str, allowed: str = "", hint: str = "") -> None:
        """Record a problem. Reading continues."""
        self.problems.append(Problem(place, key, found, allowed, hint))

    def are_good(self, *keys: str) -> bool:
        """Return whether none of these settings has a problem."""
        return not any(re.match(rf"{re.escape(key)}(\W|$)", problem.key) for problem in self.problems for key in keys)

    def _take_shorthand(self, setting: Setting, key: str, entry: Entry) -> None:
        """Take a value in place of a section. Messages name it as it is written."""
        self.places[key] = self.places[setting.key] = entry.value.place
        self.values[setting.key] = self._read(setting.kind, key, entry.value)

    def _take(self, setting: Setting, value: Node) -> None:
        match setting.shape:
            case Shape.ONE:
                self.values[setting.key] = self._read(setting.kind, setting.key, value)
            case Shape.LIST:
                self._take_list(setting, value)
            case Shape.NAMED:
                self._take_named(setting, value)

    def _take_list(self, setting: Setting, value: Node) -> None:
        if isinstance(value, Sequence) and (value.items or setting.may_be_empty):
            items = enumerate(value.items)
            read = tuple(self._read(setting.kind, f"{setting.key}[{number}]", item) for number, item in items)
            self.values[setting.key] = read
            return
        found = "an empty list" if isinstance(value, Sequence) else str(value)
        hint = f'write ["{value.text}"]' if isinstance(value, Scalar) and value.core_type is CoreType.TEXT else ""
        self.refuse(value.place, setting.key, found, f"a list, each item {setting.kind.allowed}", hint)

    def _take_named(self, setting: Setting, value: Node) -> None:
        named: dict[str, str] = {}
        self.values[setting.key] = named
        if not isinstance(value, Mapping):
            if not _is_null(value):
                self.refuse(value.place, setting.key, str(value), "a section of names and values", _as_named(value))
            return
        for entry in value.entries:
            name = f"{setting.key}.{shown_key(entry.key)}"
            if not isinstance(entry.value, Scalar):
                self.refuse(entry.value.place, name, str(entry.value), "text")
            elif self._is_good_name(entry.key, name, entry.place):
                # The value is the text as it is written, whatever type YAML gives it.
                named[entry.key] = entry.value.text

    def _read(self, kind: Kind, name: str, value: Node) -> Any:
        """Return one value, or record a problem and return None. Values count only without problems."""
        if isinstance(value, Mapping) and kind.parts is not None:
            return self._read_parts(kind.parts, name, value)
        if not isinstance(value, Scalar):
            self.refuse(value.place, name, str(value), kind.allowed)
            return None
        fits = value.written is Written.FLAG or value.core_type in kind.types
        if fits and value.core_type is CoreType.NULL:
            return None
        hint = ""
        try:
            good = kind.read(value.text, value.base)
            if fits:
                return good
            hint = "without quotes" if value.written is Written.QUOTED else "in quotes"
        except Refusal as refusal:
            hint = str(refusal)
        if value.core_type is CoreType.NULL:
            hint = "leave the line out for the default"
        self.refuse(value.place, name, str(value), kind.allowed, hint)
        return None

    def _read_parts(self, parts: Parts, name: str, value: Mapping) -> Any:
        """Return the value that keys and values make, or record every problem and return None."""
        problems_before, found = len(self.problems), {}
        for entry in value.entries:
            key = f"{name}.{shown_key(entry.key)}"
            if entry.key in parts.kinds:
                found[entry.key] = self._read(parts.kinds[entry.key], key, entry.value)
            else:
                near = nearest(entry.key.lower(), parts.kinds)
                hint = f"did you mean '{near}'?" if near else f"known here are {', '.join(parts.kinds)}"
                self.refuse(entry.place, key, "unknown setting", hint=hint)
        for part, kind in parts.kinds.items():
            if part not in found and part in parts.defaults:
                found[part] = kind.read(parts.defaults[part], "")
            elif part not in found:
                self.refuse(value.place, f"{name}.{part}", "is missing", hint=f"write {kind.allowed}")
        if len(self.problems) == problems_before:
            try:
                return parts.join(found)
            except Refusal as refusal:
                self.refuse(value.place, name, str(refusal))
        return None

    def _is_good_name(self, variable: str, name: str, place: Place) -> bool:
        if re.fullmatch(RESERVED_ENVIRONMENT, variable):
            self.refuse(place, name, f"{variable} is set by clusterd or systemd", hint="choose another name")
            return False
        if not re.fullmatch(ENVIRONMENT_NAME, variable):
            allowed = "a name of letters, digits and _ that does not begin with a digit"
            self.refuse(place, name, quoted(variable), allowed)
            return False
        return True

    def _unknown(self, key: str, prefix: str, entry: Entry) -> None:
        siblings = children(prefix.rstrip("."))
        near = nearest(entry.key.lower().replace("-", "_"), siblings)
        # Suggest a setting of the same name in another section, such as `drain` at the top level.
        elsewhere = [known for known in BY_KEY if known.rpartition(".")[2] == entry.key]
        if "." in entry.key and key in BY_KEY:
            section, _, name = key.rpartition(".")
            hint = f"in a file, write {section}: and below it, indented, {name}:"
        elif instead := instead_of(entry.key):
            hint = instead
        elif near:
            hint = f"did you mean '{near}'?"
        elif elsewhere:
            hint = f"did you mean '{elsewhere[0]}'?"
        else:
            hint = f"known here are {', '.join(siblings)}"
        self.refuse(entry.place, f"{prefix}{shown_key(entry.key)}", "unknown setting", hint=hint)


def _is_null(value: Node) -> bool:
    return isinstance(value, Scalar) and value.core_type is CoreType.NULL


def _as_section(key: str, value: Node) -> str:
    """How to write what was given for a section, as a hint. YAML takes `drain:30s` for one text."""
    if not isinstance(value, Scalar):
        return ""
    name, colon, rest = value.text.partition(":")
    if colon and name in children(key):
        return f"with a space after the colon: {name}: {rest}"
    return f"such as {{{children(key)[0]}: {value.text}}}"


def _as_named(value: Node) -> str:
    """How to write what was given for names and values, as a hint. Docker Compose and shells write NAME=VALUE."""
    first = value.items[0] if isinstance(value, Sequence) and value.items else value
    name, equals, text = first.text.partition("=") if isinstance(first, Scalar) else ("", "", "")
    return f"write {{{name}: {text}}}" if equals else ""
