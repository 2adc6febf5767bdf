"""A configuration in the words of its file: for operators to read, and for programs, which may give it back."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from clusterd.config.model import JSON, Config
from clusterd.config.settings.schema import BY_KEY
from clusterd.config.settings.setting import Setting, Shape

HIDDEN = "(not shown)"
"""In place of what an environment variable is set to: applications are handed passwords that way."""


def written(config: Config) -> dict[str, JSON]:
    """Every setting by its dotted key, in the order of the schema; without those of a section that is not there."""
    found = dict(_flat(config))
    if config.app is None:
        del found["app"]  # the place of which `run` takes
    return {key: _written(setting, found[key]) for key, setting in BY_KEY.items() if key in found}


def shown(by_key: Mapping[str, JSON]) -> dict[str, JSON]:
    """The same for an operator: without what may be secret."""
    return {key: dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else value for key, value in by_key.items()}


def nested(by_key: Mapping[str, JSON]) -> dict[str, Any]:
    """The same in sections, as in a file."""
    document: dict[str, Any] = {}
    for key, value in by_key.items():
        *sections, name = key.split(".")
        section = document
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    return document


def _flat(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in fields(section):
        value = getattr(section, field.name)
        key = f"{prefix}{field.name}"
        if is_dataclass(value) and key not in BY_KEY:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _written(setting: Setting, value: Any) -> JSON:
    match setting.shape:
        case Shape.ONE:
            return setting.kind.write(value)
        case Shape.LIST:
            return [setting.kind.write(each) for each in value]
        case Shape.NAMED:
            return {name: setting.kind.write(each) for name, each in value.items()}
