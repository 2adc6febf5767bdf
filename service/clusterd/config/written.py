"""Writes a configuration as its file would have it, for operators to read and for programs to give back."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from clusterd.config.model import JSON, Config
from clusterd.config.settings.schema import BY_KEY
from clusterd.config.settings.setting import Setting, Shape

HIDDEN = "(not shown)"
"""Shown in place of the value of an environment variable, because applications receive passwords that way."""


def written(config: Config) -> dict[str, JSON]:
    """Return every setting by its dotted key, in the order of the schema, without those of an absent section."""
    found = dict(_flat(config))
    if config.app is None:
        del found["app"]  # `run` takes its place
    return {key: _written(setting, found[key]) for key, setting in BY_KEY.items() if key in found}


def shown(by_key: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the same settings for an operator, with values that may be secret replaced by HIDDEN."""
    return {
        key: dict.fromkeys(value, HIDDEN) if isinstance(value, dict) and BY_KEY[key].shape is Shape.NAMED else value
        for key, value in by_key.items()
    }


def nested(by_key: Mapping[str, JSON]) -> dict[str, Any]:
    """Return the same settings nested in sections, as in a file."""
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
