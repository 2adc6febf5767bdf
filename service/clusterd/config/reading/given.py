"""Converts settings that a program gives as Python values to the nodes of a file. The place of a node is its key."""

import os
from collections.abc import Mapping as MappingOf
from typing import Any

from clusterd.config.reading.document import Entry, Mapping, Node, Scalar, Sequence, Written
from clusterd.config.reading.problems import Place, Problem
from clusterd.config.reading.working_directory import working_directory


def document_of(settings: MappingOf[str, Any], problems: list[Problem]) -> Mapping:
    """Return `settings` as the top-level mapping of a file. Paths in it are relative to the working directory.

    Adds to `problems` the values that no file could contain.
    """
    return _Given(working_directory(), problems).mapping(settings, "")


class _Given:
    def __init__(self, base: str, problems: list[Problem]) -> None:
        self._base = base
        self._problems = problems

    def mapping(self, values: MappingOf[Any, Any], key: str) -> Mapping:
        entries = []
        for name, value in values.items():
            own = f"{key}.{name}" if key else str(name)
            entries.append(Entry(str(name), Place(own), self._node(value, own)))
        return Mapping(tuple(entries), Place(key))

    def _node(self, value: Any, key: str) -> Node:
        place = Place(key)
        match value:
            case MappingOf():
                return self.mapping(value, key)
            case list() | tuple():
                return Sequence(tuple(self._node(each, f"{key}[{number}]") for number, each in enumerate(value)), place)
            case None:
                return self._scalar("null", Written.PLAIN, place)
            case bool():
                return self._scalar("true" if value else "false", Written.PLAIN, place)
            case str() | os.PathLike():
                return self._scalar(str(value), Written.QUOTED, place)
            case int() | float():
                return self._scalar(str(value), Written.PLAIN, place)
        name = type(value).__name__
        hint = 'name it, as in "module:attribute"' if callable(value) else "settings are text, numbers, lists and dicts"
        self._problems.append(Problem(place, key, f"found a {name}, which no setting accepts", hint=hint))
        return self._scalar("", Written.QUOTED, place)

    def _scalar(self, text: str, written: Written, place: Place) -> Scalar:
        return Scalar(text, written, place, self._base)
