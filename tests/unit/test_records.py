"""What the service's own decorator makes of a class is what the standard library's makes of it."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

import clusterd
from clusterd import records

pytestmark = pytest.mark.engine_independent

Decorator = Callable[..., Any]
T = TypeVar("T")


def kinds(decorator: Decorator) -> list[type]:
    """Classes of all kinds that the service has, made by this decorator."""

    @decorator(frozen=True)
    class Nothing:
        """Has no field."""

    @decorator(frozen=True, slots=True)
    class One:
        number: int

    @decorator(frozen=True, slots=True)
    class Defaults(One):
        name: str = "a"
        many: list[int] = field(default_factory=list)

        def said(self) -> str:
            return f"{self.name}{self.number}"

    @decorator(frozen=True, slots=True)
    class Again(Defaults):
        name: str = "b"

    @decorator(slots=True)
    class Mutable:
        number: int
        name: str = "a"

    @decorator(frozen=True)
    class Slotless:
        number: int
        name: str = "a"

    @decorator(frozen=True, slots=True)
    class Checked:
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    @decorator(frozen=True, slots=True)
    class Special:
        number: int
        shadow: int = field(init=False, default=3)
        hidden: int = field(default=4, repr=False)

    @decorator(frozen=True, slots=True)
    class Own:
        number: int

        def __repr__(self) -> str:
            return "own"

        def __hash__(self) -> int:
            return 1

    @decorator(frozen=True, slots=True)
    class Of(Generic[T]):
        number: T

    @decorator(frozen=True, slots=True)
    class Alike:  # noqa: PLW1641 - its decorator makes one
        number: int

        def __eq__(self, other: object) -> bool:
            return True

    @decorator(frozen=True)
    class Raised(Exception):
        number: int

    return [Nothing, One, Defaults, Again, Mutable, Slotless, Checked, Special, Own, Of, Alike, Raised]


OURS, STANDARD = kinds(records.dataclass), kinds(dataclasses.dataclass)


def made(cls: type, number: int = 1) -> Any:
    return cls() if cls.__name__ == "Nothing" else cls(number)


@pytest.fixture(params=zip(OURS, STANDARD, strict=True), ids=[each.__name__ for each in OURS])
def both(request: pytest.FixtureRequest) -> tuple[type, type]:
    pair: tuple[type, type] = request.param
    return pair


def outcome(action: Callable[[], object]) -> object:
    try:
        return action()
    except Exception as error:
        return type(error), str(error)


ACTIONS: dict[str, Callable[[type], object]] = {
    "shown": lambda cls: repr(made(cls)),
    "equal": lambda cls: made(cls) == made(cls),
    "different": lambda cls: made(cls) == made(cls, 2),
    "equal to another": lambda cls: made(cls) == (1,),
    "hash of equals": lambda cls: hash(made(cls)) == hash(made(cls)),
    "hash of a mutable": lambda cls: {made(cls)} == {made(cls)},
    "set": lambda cls: setattr(made(cls), "number", 3),
    "delete": lambda cls: delattr(made(cls), "number"),
    "unknown attribute": lambda cls: object.__setattr__(made(cls), "other", 3),
    "missing argument": lambda cls: repr(cls()),
    "unknown argument": lambda cls: cls(1, other=3),
    "too many arguments": lambda cls: cls(*range(10)),
    "negative": lambda cls: repr(made(cls, -1)),
    "replaced": lambda cls: repr(dataclasses.replace(made(cls), number=5)),
    "fields": lambda cls: [(each.name, each.type, each.default) for each in dataclasses.fields(cls)],
    "of an instance": lambda cls: [each.name for each in dataclasses.fields(made(cls))],
    "as a dict": lambda cls: dataclasses.asdict(made(cls)),
    "is one": lambda cls: (dataclasses.is_dataclass(cls), dataclasses.is_dataclass(made(cls))),
    "matched": lambda cls: cls.__match_args__,  # type: ignore[attr-defined]
    "slots": lambda cls: getattr(cls, "__slots__", None),
    "copied": lambda cls: (copy.copy(made(cls)) == made(cls), copy.deepcopy(made(cls)) == made(cls)),
    "named": lambda cls: (cls.__name__, cls.__qualname__, cls.__module__),
    "signature": lambda cls: (made(cls) == 0, str(inspect.signature(cls))),
    "subclass": lambda cls: repr(made(type("Below", (cls,), {}))),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_it_does_what_the_standard_one_does(both: tuple[type, type], action: Callable[[type], object]) -> None:
    ours, standard = (outcome(partial(action, cls)) for cls in both)
    assert ours == standard


def test_defaults_are_made_for_each_instance() -> None:
    defaults = next(each for each in OURS if each.__name__ == "Defaults")
    assert defaults(1).many is not defaults(1).many


def test_records_travel() -> None:
    before = Travelling(1, "a")
    assert pickle.loads(pickle.dumps(before)) == before
    assert copy.copy(Travelling(2)) == Travelling(2)


@records.dataclass(frozen=True, slots=True)
class Travelling:
    number: int
    name: str = "b"


def test_an_instance_is_frozen_from_the_start() -> None:
    """The methods come from different places."""
    with pytest.raises(FrozenInstanceError):
        Travelling(1).number = 2  # type: ignore[misc]


LOOK = """
import dataclasses, importlib, pkgutil
import clusterd

for module in pkgutil.walk_packages(clusterd.__path__, "clusterd."):
    if not module.name.endswith("__main__"):
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and cls.__module__ == module.name and "__record_fields__" in vars(cls):
                fields = dataclasses.fields(cls)
                is_plain = all(each.init and not each.kw_only for each in fields)
                as_here = cls.__record_fields__ == tuple(each.name for each in fields)
                print(module.name, cls.__name__, "same" if is_plain and as_here else fields)
"""


def test_the_fields_of_all_classes_are_those_that_the_standard_library_finds() -> None:
    """ClassVar, InitVar and KW_ONLY are not known here. In a process of its own, as it imports every module."""
    package = Path(clusterd.__file__).parents[1]
    looked = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(package)}
    )
    found = looked.stdout.splitlines()
    assert len(found) > 250
    assert [each for each in found if not each.endswith(" same")] == []
