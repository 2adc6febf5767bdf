"""`dataclass` as in the standard library, where a class takes a tenth of the time and a third of the memory.

The standard library compiles five or six methods for each class that it decorates. A master defines 250 of them: that
was a third of the time that it takes to start, and most of these methods are never called. Here classes share what need
not be compiled, and the standard library completes a class when it is first called.

Modules that mypyc compiles use the standard library's, which mypyc knows by name and compiles itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, FrozenInstanceError
from dataclasses import dataclass as standard_dataclass
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False) -> Callable[[type], type]:
        """See `dataclasses.dataclass`, of which these are the flags that are used here."""
        return lambda cls: _decorated(cls, frozen=frozen, slots=slots)


_NAMES = "__record_fields__"
"""Where a class has the names of its fields."""
_FIELDS = "__dataclass_fields__"
_BODY = "__module__", "__qualname__", "__doc__", "__annotations__", "__orig_bases__", "__post_init__"
"""What the standard library has to know of a class to complete it, besides its defaults."""


def _decorated(cls: type, *, frozen: bool, slots: bool) -> type:
    own = dict(vars(cls))
    defaults = {name: own.pop(name) for name in cls.__annotations__ if name in own}
    if _is_exotic(cls, own) or any(map(_is_special, defaults.values())) or any(map(_is_of_standard, cls.__mro__)):
        return standard_dataclass(frozen=frozen, slots=slots)(cls)
    names = tuple(dict.fromkeys([*_inherited(cls, _NAMES), *cls.__annotations__]))
    body = {name: getattr(cls, name) for name in _BODY if hasattr(cls, name)}
    completion = _Completion(body | defaults, frozen=frozen)
    methods = {name: each for name, each in _methods(names, frozen=frozen).items() if name not in own}
    made = methods | {_NAMES: names, _FIELDS: completion, "__init__": completion.first_init()}
    if slots:
        completion.cls = _with_slots(cls, own | made)
    else:
        completion.cls = cls
        for name, value in made.items():
            setattr(cls, name, value)
    return completion.cls


def _with_slots(cls: type, body: dict[str, Any]) -> type:
    """Make the class anew, as Python has slots only where it makes one."""
    taken = _inherited(cls, "__slots__")
    body["__qualname__"] = cls.__qualname__
    body["__slots__"] = tuple(name for name in cls.__annotations__ if name not in taken)
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    return type(cls)(cls.__name__, cls.__bases__, body)


def _is_exotic(cls: type, own: Mapping[str, object]) -> bool:
    """Whether some of what it has is in the way of what it would get."""
    return not own.keys().isdisjoint(("__init__", "__eq__")) or issubclass(cls, BaseException)


def _is_special(default: object) -> bool:
    """Whether it tells of a field what only the standard library knows how to do."""
    return isinstance(default, Field) and not (default.init and default.repr and default.compare)


def _is_of_standard(base: type) -> bool:
    return _FIELDS in vars(base) and _NAMES not in vars(base)


def _inherited(cls: type, attribute: str) -> list[str]:
    return [name for base in reversed(cls.__mro__[1:]) for name in vars(base).get(attribute, ())]


class _Completion:
    """Completes a class when an instance is first made, or its `__dataclass_fields__` are first asked for."""

    cls: type

    def __init__(self, body: dict[str, Any], *, frozen: bool) -> None:
        self._body = body
        self._frozen = frozen

    def __get__(self, instance: object, owner: type) -> Any:
        self._complete()
        return getattr(self.cls, _FIELDS)

    def first_init(self) -> Callable[..., None]:
        """Return the `__init__` that a class has until it is complete."""

        def first_init(self_: object, /, *arguments: object, **named: object) -> None:
            self._complete()
            self.cls.__init__(self_, *arguments, **named)  # type: ignore[misc]

        return first_init

    def _complete(self) -> None:
        like = type(self.cls)(self.cls.__name__, self.cls.__bases__, dict(self._body))
        standard_dataclass(frozen=self._frozen, repr=False, eq=False)(like)
        for name in ("__init__", "__dataclass_params__", _FIELDS):
            setattr(self.cls, name, vars(like)[name])


def _methods(names: tuple[str, ...], *, frozen: bool) -> dict[str, Any]:
    values: Callable[[Any], tuple[Any, ...]]
    if len(names) > 1:
        values = attrgetter(*names)
    else:  # attrgetter returns no tuple.

        def values(record: object) -> tuple[Any, ...]:
            return tuple(getattr(record, name) for name in names)

    def is_equal(self: object, other: object) -> bool:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: object) -> int:
        return hash(values(self))

    common = {"__match_args__": names, "__repr__": _represent, "__eq__": is_equal}
    return common | {"__hash__": hashed, **_FROZEN} if frozen else common | {"__hash__": None}


@recursive_repr()
def _represent(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in getattr(self, _NAMES))
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(_: object, name: str, value: object) -> NoReturn:  # noqa: ARG001 - as Python calls it
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: object) -> list[Any]:
    return [getattr(self, name) for name in getattr(self, _NAMES)]


def _restore(self: object, state: list[Any]) -> None:
    for name, value in zip(getattr(self, _NAMES), state, strict=True):
        object.__setattr__(self, name, value)


_FROZEN = {
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _state,
    "__setstate__": _restore,
}
