"""Writes what is made from the definitions of the settings: the JSON Schema for editors, and docs/settings.md.

`python -m clusterd.config.reference`, which is `make docs`, writes both into the source tree it is part of.
"""

import json
import sys
from pathlib import Path

from clusterd.config.model import JSON
from clusterd.config.settings.application_settings import ENVIRONMENT_NAME
from clusterd.config.settings.schema import BY_KEY, SECTIONS, SETTINGS, children
from clusterd.config.settings.setting import Setting, Shape

SCHEMA = "etc/clusterd/clusterd.schema.json"
SETTINGS_PAGE = "docs/settings.md"

_SOURCE_TREE = Path(__file__).parents[3]
_INTRODUCTION = """\
# Settings

<!-- Made by `make docs` from the definitions of the settings in service/clusterd/config: change those. -->

`clusterd` reads `/etc/clusterd/clusterd.yaml`, or the file named by `--config`. Each setting has a flag, nested ones
with dots (`--timeouts.drain 10s`); a flag wins over the file. `clusterd --check` says everything that is wrong with a
configuration, by file, line and column, and changes nothing.

- **Durations** are a number and a unit: `500ms`, `5s`, `2m`, `1h`. **Sizes** are bytes, or have a unit that counts in
  1024: `64K`, `16M`, `2G`, `1T`.
- **Paths** are relative to the file, those of flags to the working directory: to its name (`$PWD`), so that after
  `cd current` each reload goes where the link `current` leads by then.
- The file is YAML 1.2: `true` and `false` are the only booleans, and `off`, `no` and `1:30` are text. Values of
  `environment` are taken as they are written. Anchors, aliases, tags and a key given twice are refused.
- A value out of its range is refused, never moved into it; so is an unknown setting.

A reload applies a changed setting

- **live**: at once, for the workers that run already too;
- **next generation**: in the workers that the reload starts;
- **restart**: not at all, and says so by name; it takes effect when clusterd is started again.
"""


def json_schema() -> dict[str, JSON]:
    """The schema of the file, in draft 7, which is what editors understand best."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "clusterd.yaml",
        "description": "Made from the definitions of the settings in service/clusterd/config.",
        **_section_schema(""),
        "type": "object",
    }


def settings_page() -> str:
    """docs/settings.md."""
    parts, section = [_INTRODUCTION], None
    for setting in SETTINGS:
        above, _, _ = setting.key.rpartition(".")
        if above != section:
            section = above
            parts.append(f"\n## {section}\n\n{SECTIONS[section]}\n" if section else "\n## Top level\n")
        parts.append(_entry(setting))
    return "".join(parts)


def generated() -> dict[str, str]:
    """The generated files: text by path, relative to the source tree."""
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    return {SCHEMA: f"{schema}\n", SETTINGS_PAGE: settings_page()}


def main() -> int:
    """Write the generated files; prints their names."""
    for name, text in generated().items():
        path = _SOURCE_TREE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")
    return 0


def _section_schema(section: str) -> dict[str, JSON]:
    prefix = f"{section}." if section else ""
    properties: dict[str, JSON] = {}
    for name in children(section):
        key = f"{prefix}{name}"
        if key in BY_KEY:
            properties[name] = _setting_schema(BY_KEY[key])
        else:
            properties[name] = {"description": SECTIONS[key], **_section_schema(key)}
    required: list[JSON] = [name for name in properties if prefix and _is_required(f"{prefix}{name}")]
    schema: dict[str, JSON] = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    # Not `app`: it may come from the command line.
    return {**schema, "required": required} if required else schema


def _is_required(key: str) -> bool:
    return key in BY_KEY and BY_KEY[key].default is None


def _setting_schema(setting: Setting) -> dict[str, JSON]:
    value, description = dict(setting.kind.json_schema), f"{setting.help} Applies: {setting.applies}."
    match setting.shape:
        case Shape.ONE:
            return {"description": description, **value}
        case Shape.LIST:
            items: dict[str, JSON] = {"description": description, "type": "array", "items": value}
            return items if setting.may_be_empty else {**items, "minItems": 1}
        case Shape.NAMED:
            written: JSON = {"type": ["string", "number", "boolean", "null"]}
            names: JSON = {"pattern": f"^{ENVIRONMENT_NAME}$"}
            return {
                "description": description,
                "type": ["object", "null"],
                "propertyNames": names,
                "additionalProperties": written,
            }


def _entry(setting: Setting) -> str:
    return (
        f"\n### `{setting.key}`\n\n{setting.help}\n\n"
        f"- Value: {_value(setting)}\n- Default: {_default(setting)}\n- Applies: {setting.applies}\n"
    )


def _value(setting: Setting) -> str:
    match setting.shape:
        case Shape.ONE:
            return setting.kind.allowed
        case Shape.LIST:
            return f"a list, each item {setting.kind.allowed}"
        case Shape.NAMED:
            return "names and their texts"


def _default(setting: Setting) -> str:
    if setting.default is None:
        return f"none, it or `{setting.instead}` is required" if setting.instead else "none, it is required"
    if setting.shape is Shape.NAMED:
        return "`{}`"
    if setting.shape is Shape.LIST:
        return f'`["{setting.default}"]`' if setting.default else "`[]`"
    return f"`{setting.default}`" if setting.default else '`""`'


if __name__ == "__main__":
    sys.exit(main())
