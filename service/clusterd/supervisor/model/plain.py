"""Values of dataclasses as JSON, and back again by their declared types.

It is how one program of the master leaves its state to the next, which may be of another version: a field that is
missing has its default, and a field or a value that the reader does not know is an error. So nothing is misunderstood.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Value = TypeVar("_Value")
_ATOMS = frozenset((bool, int, float, str))
_MANY: Mapping[type, type] = {list: list, tuple: tuple, frozenset: frozenset, set: set}


class PlainError(ValueError):
    """A document is not what `to_plain` makes of such a value. The text says where, what was found and expected."""


def to_plain(value: object) -> Any:
    """Return `value` as JSON. Raises TypeError."""
    if value is None or type(value) in _ATOMS:
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        # Most values are atoms. Not to call for each of them halves the time.
        plain = {}
        kind: Any = type(value)
        for name in _names(kind):
            each = getattr(value, name)
            plain[name] = each if each is None or type(each) in _ATOMS else to_plain(each)
        return plain
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value):
            return {key: to_plain(each) for key, each in value.items()}
        return [[to_plain(key), to_plain(each)] for key, each in value.items()]
    if isinstance(value, (frozenset, set)):
        return sorted(to_plain(each) for each in value)
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(kind: type[_Value], plain: object) -> _Value:
    """Return the value of the type `kind` that `to_plain` has made `plain` of. Raises PlainError."""
    found: _Value = _read(kind, plain, kind.__name__)
    return found


def _read(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return _read_union(arguments, plain, where)
    if kind is NoneType and plain is None:
        return None
    if origin in _ATOMS:
        if type(plain) is origin or (origin is float and type(plain) is int):
            return origin(plain)
    elif isinstance(origin, type) and issubclass(origin, Enum):
        return _read_enum(origin, plain, where)
    elif is_dataclass(origin) and isinstance(plain, dict):
        return _read_dataclass(origin, plain, where)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(plain, (dict, list)):
        return _read_mapping(arguments, plain, where)
    elif origin in _MANY and isinstance(plain, list):
        return _MANY[origin](_read_each(origin, arguments, plain, where))
    raise PlainError(f"{where}: found {plain!r:.100}, expected {getattr(kind, '__name__', kind)}")


def _read_union(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    problem = PlainError(f"{where}: found {plain!r:.100}")
    for kind in kinds:
        try:
            return _read(kind, plain, where)
        except PlainError as error:
            problem = error if kind is not NoneType else problem
    raise problem


def _read_enum(kind: type[Enum], plain: Any, where: str) -> Enum:
    try:
        return kind(plain)
    except ValueError:
        raise PlainError(f"{where}: {plain!r:.100} is no {kind.__name__}") from None


def _read_mapping(arguments: tuple[Any, ...], plain: dict[str, Any] | list[Any], where: str) -> dict[Any, Any]:
    found = {}
    for pair in plain if isinstance(plain, list) else map(list, plain.items()):
        if not isinstance(pair, list) or len(pair) != 2:
            raise PlainError(f"{where}: found {pair!r:.100}, expected a key and a value")
        key = _read(arguments[0], pair[0], where)
        found[key] = _read(arguments[1], pair[1], f"{where}[{key}]")
    return found


def _read_each(origin: type, arguments: tuple[Any, ...], plain: list[Any], where: str) -> list[Any]:
    if origin is not tuple or arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(plain)
    elif len(arguments) == len(plain):
        kinds = list(arguments)
    else:
        raise PlainError(f"{where}: found {len(plain)} values, expected {len(arguments)}")
    return [
        _read(kind, each, f"{where}[{number}]") for number, (kind, each) in enumerate(zip(kinds, plain, strict=True))
    ]


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the names of a dataclass's fields: to find them takes as long as to write them down."""
    return tuple(each.name for each in fields(kind))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read_dataclass(kind: Any, plain: dict[str, Any], where: str) -> Any:
    known = {each.name: each for each in fields(kind) if each.init}
    if unknown := sorted(plain.keys() - known.keys()):
        raise PlainError(f"{where}: there is no {', '.join(unknown)} in {kind.__name__}")
    for name, field in known.items():
        if name not in plain and field.default is MISSING and field.default_factory is MISSING:
            raise PlainError(f"{where}: {name} is missing")
    return kind(**{name: _read(_hints(kind)[name], value, f"{where}.{name}") for name, value in plain.items()})
