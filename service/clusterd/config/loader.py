"""Read a configuration: the file, the flags over it, the defaults under both; everything wrong with it at once."""

import difflib
import os
import re
import sys
from collections.abc import Mapping as MappingOf
from collections.abc import Sequence as SequenceOf
from pathlib import Path
from types import MappingProxyType
from typing import Any, Never

from clusterd.config import document as yaml
from clusterd.config.kinds import CoreType, Refusal
from clusterd.config.model import Config, HealthCheck, Limits, Log, Rollout, Timeouts
from clusterd.config.problems import ConfigError, Place, Problem, quoted, shown_key
from clusterd.config.schema import (
    BY_KEY,
    ENVIRONMENT_NAME,
    OPTIONAL_SECTIONS,
    RESERVED_ENVIRONMENT,
    SECTIONS,
    SETTINGS,
    Setting,
    Shape,
)

__all__ = ["ConfigError", "Problem", "load"]

_HEALTH_CHECK = "rollout.health_check"
_BYTE_ORDER_MARK = "\ufeff"
_NO_OVERRIDES: MappingOf[str, SequenceOf[str]] = MappingProxyType({})


def load(path: Path | None, overrides: MappingOf[str, SequenceOf[str]] = _NO_OVERRIDES) -> Config:
    """The configuration in the file at `path` (None: no file), with flags over it.

    `overrides` has the texts given for a setting's flag, by key. Raises ConfigError with every problem.
    """
    return _Reading(path).config(overrides)


class _Reading:
    """One reading of one configuration; collects values and problems."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._source = str(path) if path is not None else "the command line"
        self._base = os.path.abspath(path.parent if path is not None else ".")
        self._problems: list[Problem] = []
        self._values: dict[str, Any] = {}
        self._places: dict[str, Place] = {}

    def config(self, overrides: MappingOf[str, SequenceOf[str]]) -> Config:
        if self._path is not None:
            root = yaml.parse_document(self._text(self._path), self._source, self._base, self._problems)
            if root is None and not overrides:
                self._refuse("the file is empty", "app is required: write app: module:attribute")
            if root is not None:
                self._section(root, "")
        for key, texts in overrides.items():
            self._flag(BY_KEY[key], texts)
        self._fill_in_defaults()
        if not self._problems:
            self._check_combinations()
        if self._problems:
            raise ConfigError(tuple(self._problems))
        return self._build()

    def _text(self, path: Path) -> str:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            self._refuse("there is no such file", "name another one with --config")
        except IsADirectoryError:
            self._refuse("this is a directory", "name the file in it")
        except (OSError, ValueError) as error:
            self._refuse(f"can not be read: {error}")
        try:
            return data.decode().removeprefix(_BYTE_ORDER_MARK)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
            found = f"byte 0x{data[error.start]:02x} is not UTF-8"
            problem = Problem(Place(self._source, line, column), "", found, hint="save the file as UTF-8")
            raise ConfigError((problem,)) from error

    def _refuse(self, found: str, hint: str = "") -> Never:
        raise ConfigError((Problem(Place(self._source), "", found, hint=hint),))

    # ---- from the file

    def _section(self, section: yaml.Mapping, prefix: str) -> None:
        for entry in section.entries:
            key = f"{prefix}{entry.key}"
            if "." in entry.key:
                # `timeouts.drain` is how a flag is written, not a key of a file.
                self._unknown(key, prefix, entry)
            elif key in BY_KEY:
                self._setting(BY_KEY[key], entry)
            elif key in SECTIONS:
                self._subsection(key, entry)
            else:
                self._unknown(key, prefix, entry)

    def _subsection(self, key: str, entry: yaml.Entry) -> None:
        value = entry.value
        if isinstance(value, yaml.Mapping):
            self._places[key] = entry.place
            self._section(value, f"{key}.")
        elif not _is_null(value):
            self._problem(value.place, key, str(value), "a section (keys and values)")
        elif key not in OPTIONAL_SECTIONS:
            self._problem(entry.place, key, "nothing", "a section (keys and values)")

    def _unknown(self, key: str, prefix: str, entry: yaml.Entry) -> None:
        known = [name for name in (*BY_KEY, *SECTIONS) if name.startswith(prefix)]
        siblings = [name.removeprefix(prefix) for name in known if "." not in name.removeprefix(prefix)]
        near = difflib.get_close_matches(entry.key, siblings, n=1)
        # A setting of another section, such as `drain` at the top.
        elsewhere = [name for name in BY_KEY if name.rpartition(".")[2] == entry.key]
        hint = f"known here are: {', '.join(siblings)}"
        if key in BY_KEY:
            hint = f"write it as a section: {key.replace('.', ': {', 1)}: ...}}"
            near, elsewhere = [], []
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif elsewhere:
            hint = f"did you mean {elsewhere[0]!r}?"
        shown = ".".join(shown_key(part) for part in key.split(".")) if key else shown_key(key)
        self._problems.append(Problem(entry.place, shown, "unknown setting", hint=hint))

    def _setting(self, setting: Setting, entry: yaml.Entry) -> None:
        key, value = setting.key, entry.value
        self._places[key] = entry.place
        if setting.shape is Shape.LIST:
            self._list(setting, value)
        elif setting.shape is Shape.NAMED:
            self._named(setting, value)
        elif isinstance(value, yaml.Scalar):
            self._values[key] = self._scalar(setting, key, value)
        else:
            self._problem(value.place, key, str(value), setting.kind.allowed)

    def _list(self, setting: Setting, value: yaml.Node) -> None:
        if not isinstance(value, yaml.Sequence) or not value.items:
            found = "an empty list" if isinstance(value, yaml.Sequence) else str(value)
            self._problem(value.place, setting.key, found, f"a list, each {setting.kind.allowed}")
            return
        items = []
        for number, item in enumerate(value.items):
            name = f"{setting.key}[{number}]"
            if isinstance(item, yaml.Scalar):
                items.append(self._scalar(setting, name, item))
            else:
                self._problem(item.place, name, str(item), setting.kind.allowed)
        self._values[setting.key] = tuple(items)

    def _named(self, setting: Setting, value: yaml.Node) -> None:
        if not isinstance(value, yaml.Mapping):
            if not _is_null(value):
                self._problem(value.place, setting.key, str(value), "a section of names and values")
            return
        named = {}
        for entry in value.entries:
            name = f"{setting.key}.{shown_key(entry.key)}"
            self._check_name(entry.key, name, entry.place)
            if isinstance(entry.value, yaml.Scalar):
                # The text as it is written, whatever YAML would make of it.
                named[entry.key] = entry.value.text
            else:
                self._problem(entry.value.place, name, str(entry.value), "text")
        self._values[setting.key] = named

    def _scalar(self, setting: Setting, name: str, scalar: yaml.Scalar) -> Any:
        kind = setting.kind
        if scalar.core_type not in kind.types and scalar.written is not yaml.Written.FLAG:
            quoted_number = scalar.core_type is CoreType.TEXT and CoreType.NUMBER in kind.types
            self._problem(scalar.place, name, str(scalar), kind.allowed, "without quotes" if quoted_number else "")
            return None
        if scalar.core_type is CoreType.NULL:
            return None
        try:
            return kind.read(scalar.text, scalar.base)
        except Refusal as refusal:
            self._problem(scalar.place, name, str(scalar), kind.allowed, str(refusal))
            return None

    def _check_name(self, variable: str, name: str, place: Place) -> None:
        if not re.fullmatch(ENVIRONMENT_NAME, variable):
            self._problem(place, name, quoted(variable), "a name of letters, digits and _, not beginning with a digit")
        elif re.fullmatch(RESERVED_ENVIRONMENT, variable):
            self._problems.append(Problem(place, name, "is set by clusterd or systemd", hint="choose another name"))

    # ---- from flags

    def _flag(self, setting: Setting, texts: SequenceOf[str]) -> None:
        place, base = Place(setting.flag), os.getcwd()
        self._places[setting.key] = place
        scalars = [yaml.Scalar(text, yaml.Written.FLAG, place, base) for text in texts]
        if setting.shape is Shape.LIST:
            self._values[setting.key] = tuple(self._scalar(setting, setting.key, each) for each in scalars)
        elif setting.shape is Shape.NAMED:
            named = dict(self._values.get(setting.key, {}))
            for text in texts:
                name, equals, value = text.partition("=")
                if not equals:
                    self._problem(place, setting.key, quoted(text), setting.metavar)
                self._check_name(name, setting.key, place)
                named[name] = value
            self._values[setting.key] = named
        else:
            self._values[setting.key] = self._scalar(setting, setting.key, scalars[-1])

    # ---- what was not given, and what does not go together

    def _fill_in_defaults(self) -> None:
        checked = any(key.startswith(f"{_HEALTH_CHECK}.") for key in self._values) or _HEALTH_CHECK in self._places
        for setting in SETTINGS:
            key = setting.key
            if key in self._places or (key.startswith(_HEALTH_CHECK) and not checked):
                continue
            if setting.default is None:
                place = self._places.get(_HEALTH_CHECK, Place(self._source))
                self._problems.append(Problem(place, key, f"{key} is required: {setting.kind.allowed}"))
            elif setting.shape is Shape.NAMED:
                self._values[key] = {}
            elif key == "python":
                self._values[key] = sys.executable
            else:
                value = setting.kind.read(setting.default, self._base)
                self._values[key] = (value,) if setting.shape is Shape.LIST else value

    def _check_combinations(self) -> None:
        values = self._values
        self._at_most("timeouts.drain_idle", "timeouts.drain")
        if values.get(f"{_HEALTH_CHECK}.path") is not None:
            self._at_most(f"{_HEALTH_CHECK}.timeout", "rollout.boot_timeout")
        addresses = [str(address) for address in values["listen"] if not str(address).endswith(":0")]
        for address in sorted({each for each in addresses if addresses.count(each) > 1}):
            self._clash("listen", f"{address} is given twice")
        if values["metrics"] is not None and str(values["metrics"]) in addresses:
            self._clash("metrics", f"{values['metrics']} is in listen too")

    def _at_most(self, key: str, bound: str) -> None:
        if key not in self._places:
            # A default follows the bound; only what was written can be wrong.
            self._values[key] = min(self._values[key], self._values[bound])
        if self._values[key] > self._values[bound]:
            self._clash(key, f"{self._values[key]:g} s is longer than {bound} ({self._values[bound]:g} s)")

    def _clash(self, key: str, found: str) -> None:
        self._problems.append(Problem(self._places.get(key, Place(self._source)), key, found))

    def _problem(self, place: Place, key: str, found: str, allowed: str, hint: str = "") -> None:
        self._problems.append(Problem(place, key, found, allowed, hint))

    # ---- the result

    def _build(self) -> Config:
        values = dict(self._values)
        health_check = _take(values, f"{_HEALTH_CHECK}.")
        rollout = _take(values, "rollout.")
        return Config(
            rollout=Rollout(**rollout, health_check=HealthCheck(**health_check) if health_check else None),
            timeouts=Timeouts(**_take(values, "timeouts.")),
            limits=Limits(**_take(values, "limits.")),
            log=Log(**_take(values, "log.")),
            **values,
        )


def _take(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Remove the values of a section and give them by their last names."""
    keys = [key for key in values if key.startswith(prefix)]
    return {key.removeprefix(prefix): values.pop(key) for key in keys}


def _is_null(value: yaml.Node) -> bool:
    return isinstance(value, yaml.Scalar) and value.core_type is CoreType.NULL
