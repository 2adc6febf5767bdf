"""Writes the state of the master as JSON text, and makes anew only what has changed since the last time.

The state is written several times for each worker that starts, and of a thousand workers all but one are as they were.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from clusterd.master.takeover.state import ChildState, ConfigState
from clusterd.metrics.regions.arena import Lease
from clusterd.metrics.shared.row import Totals
from clusterd.supervisor.model.plain import to_plain
from clusterd.supervisor.model.table import Template, Worker
from clusterd.wire.hooks import WorkerEvent

_Made = TypeVar("_Made")
_ATOMS = frozenset((bool, int, float, str, type(None)))
_LEAVES = (int, float, str, Enum, type(None))

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_PARTS = (ChildState, ConfigState, Lease, Template, Totals, Worker, WorkerEvent)
"""What there is one of for each process, slot or generation. A field gets another value, but no value in it changes."""
_FIELDS: Mapping[type, Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*(each.name for each in fields(kind))) for kind in _PARTS
}


class Memo(Generic[_Made]):
    """Remembers what was made of a value, from one round to the next one in which it is asked for."""

    def __init__(self) -> None:
        # The value itself is kept, so that its id belongs to no other one.
        self._last: dict[int, tuple[Any, tuple[Any, ...], _Made]] = {}
        self._known: dict[int, tuple[Any, tuple[Any, ...], _Made]] = {}

    def begin(self) -> None:
        """Begin a round. What was not asked for in the last one is forgotten."""
        self._last, self._known = self._known, {}

    def made(self, of: Any, parts: tuple[Any, ...], make: Callable[[], _Made]) -> _Made:
        """Return what `make` has made of a value when it had these parts."""
        known = self._last.get(id(of))
        if known is None or known[0] is not of or known[1] != parts:
            known = of, parts, make()
        self._known[id(of)] = known
        return known[2]


class StateText:
    """The text of one state after another. It is that of json.dumps(to_plain(state)), but for spaces."""

    def __init__(self) -> None:
        self._parts: Memo[bytes] = Memo()

    def of(self, state: Any) -> bytes:
        """Return the text of a state, which may be a MasterState or a part of one. Raises TypeError."""
        self._parts.begin()
        return self._text(state)

    def _text(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _ATOMS:
            return _dumped(value)
        parts = _FIELDS.get(kind)
        if parts is not None:
            return self._parts.made(value, parts(value), lambda: _dumped(to_plain(value)))
        if is_dataclass(value):
            return self._object({each.name: getattr(value, each.name) for each in fields(value)})
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, (list, tuple)) and not all(isinstance(each, _LEAVES) for each in value):
            return b"[%b]" % b",".join([self._text(each) for each in value])
        return _dumped(to_plain(value))

    def _mapping(self, value: Mapping[Any, Any]) -> bytes:
        if all(isinstance(each, _LEAVES) for each in value.values()):
            return _dumped(to_plain(value))
        if all(type(key) is str for key in value):
            return self._object(value)
        return b"[%b]" % b",".join([b"[%b,%b]" % (_key(key), self._text(each)) for key, each in value.items()])

    def _object(self, named: Mapping[str, Any]) -> bytes:
        return b"{%b}" % b",".join([b"%b:%b" % (_dumped(name), self._text(each)) for name, each in named.items()])


def _key(value: Any) -> bytes:
    return b"%d" % value if type(value) is int else _dumped(to_plain(value))


def _dumped(plain: Any) -> bytes:
    return _ENCODER.encode(plain).encode()
