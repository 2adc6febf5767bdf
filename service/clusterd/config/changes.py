"""What a reload changes, and when each change takes effect."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from clusterd.config.model import Config
from clusterd.config.schema import BY_KEY
from clusterd.config.setting import Applies

__all__ = ["Applies", "Change", "changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """A setting with another value than before."""

    key: str
    applies: Applies
    before: Any
    after: Any


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """The settings in which `new` differs from `old`, in the order of the schema."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return tuple(
        Change(key, setting.applies, before.get(key), after.get(key))
        for key, setting in BY_KEY.items()
        if before.get(key) != after.get(key)
    )


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        key = f"{prefix}{field.name}"
        if is_dataclass(value) and key not in BY_KEY:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value
