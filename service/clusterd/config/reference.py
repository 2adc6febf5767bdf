"""The files that are made from the schema: `python -m clusterd.config.reference` writes them anew.

The JSON Schema (draft 7) completes and checks the configuration in editors; docs/settings.md and the manual page
clusterd.yaml(5) are for people.
"""

import json
from pathlib import Path

from clusterd.config.model import JSON
from clusterd.config.schema import ENVIRONMENT_NAME, OPTIONAL_SECTIONS, SECTIONS, SETTINGS, Setting, Shape

ROOT = Path(__file__).resolve().parents[3]
SCHEMA_FILE = Path("etc/clusterd/clusterd.schema.json")
SETTINGS_FILE = Path("docs/settings.md")
MANUAL_FILE = Path("docs/man/clusterd.yaml.5")


def json_schema() -> str:
    """The text of the JSON Schema."""
    document = _section("")
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "clusterd",
        "description": "The configuration of clusterd.",
        **document,
    }
    return json.dumps(document, indent=2) + "\n"


def _section(prefix: str) -> dict[str, JSON]:
    properties: dict[str, JSON] = {}
    required: list[JSON] = []
    for setting in SETTINGS:
        name = setting.key.removeprefix(prefix)
        if setting.key.startswith(prefix) and "." not in name:
            properties[name] = _property(setting)
            if setting.default is None and prefix:
                required.append(name)
    for key, text in SECTIONS.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and "." not in name:
            section: dict[str, JSON] = {"description": text, **_section(f"{key}.")}
            properties[name] = {"anyOf": [{"type": "null"}, section]} if key in OPTIONAL_SECTIONS else section
    document: dict[str, JSON] = {"type": "object", "additionalProperties": False, "properties": properties}
    # `app` may come from the command line, so a file without it is not wrong by itself.
    return {**document, "required": required} if required else document


def _property(setting: Setting) -> JSON:
    schema = setting.kind.json_schema()
    match setting.shape:
        case Shape.LIST:
            schema = {"type": "array", "minItems": 1, "items": schema}
        case Shape.NAMED:
            scalar: JSON = {"type": ["string", "number", "boolean", "null"]}
            schema = {"type": "object", "propertyNames": {"pattern": f"^{ENVIRONMENT_NAME}$"}}
            schema["additionalProperties"] = scalar
        case Shape.ONE:
            pass
    return {"description": setting.help, **schema}


def settings_page() -> str:
    """The text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Every setting of `clusterd.yaml`, and its flag on the command line; a flag wins over the file.",
        "Durations are written `500ms`, `5s`, `2m`, `1h`; sizes `65536`, `64K`, `16M`, `2G`. Paths are relative to the",
        "file, those in flags to the working directory.",
        "",
        "A reload reads the whole file. What a change of a setting takes effect on:",
        "",
        "- **live**: at the reload, for what runs already too;",
        "- **next generation**: at the reload, in the workers that it starts;",
        "- **restart**: when clusterd is started again. A reload that changes such a setting says so by name.",
        "",
        "Made from `service/clusterd/config/schema.py` by `make docs`.",
    ]
    section = None
    for setting in SETTINGS:
        prefix = setting.key.rpartition(".")[0]
        if prefix != section:
            section = prefix
            lines += ["", f"## {prefix}" if prefix else "## The application and its processes", ""]
            if prefix:
                lines += [SECTIONS[prefix], ""]
            lines += ["| setting | default | allowed | a change applies | |", "|---|---|---|---|---|"]
        lines.append(_row(setting))
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> str:
    default = "required" if setting.default is None else f"`{setting.default}`" if setting.default else ""
    allowed = setting.kind.allowed
    match setting.shape:
        case Shape.LIST:
            allowed, default = f"a list, each {allowed}", f"`[{setting.default}]`"
        case Shape.NAMED:
            allowed = "names and values"
        case Shape.ONE:
            pass
    cells = [f"`{setting.key}`<br>`{setting.flag}`", default, allowed, setting.applies.value, setting.help]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def settings_manual() -> str:
    """The text of clusterd.yaml(5), in the macros of man(7)."""
    lines = [
        ".TH CLUSTERD.YAML 5",
        ".SH NAME",
        "clusterd.yaml \\- configuration of clusterd",
        ".SH SYNOPSIS",
        ".I /etc/clusterd/clusterd.yaml",
        ".br",
        ".I /etc/clusterd/NAME.yaml",
        "(instances)",
        ".SH DESCRIPTION",
        "A YAML file, read by the rules of YAML 1.2: only true and false are booleans. Unknown keys, wrong types and",
        "values out of range are refused with their line and column; a reload with a bad file changes nothing.",
        "Durations are written 500ms, 5s, 2m, 1h; sizes 65536, 64K, 16M, 2G. Paths are relative to the file.",
        "A dotted key is a key of a section. Each setting has a flag of clusterd(8), which wins over the file.",
        ".SH SETTINGS",
    ]
    for setting in SETTINGS:
        default = "required" if setting.default is None else f"default: {setting.default or 'see below'}"
        lines += [
            ".TP",
            f".B {_roff(setting.key)}",
            _roff(f"{setting.kind.allowed}; {default}; a change applies: {setting.applies.value}."),
            ".br",
            _roff(setting.help),
        ]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR clusterd (8),", ".BR clusterctl (1)"]) + "\n"


def _roff(text: str) -> str:
    """`text` as man(7) wants it: hyphens that can be copied, no line that looks like a macro."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(root: Path = ROOT) -> None:
    """Write all of them below `root`."""
    (root / SCHEMA_FILE).write_text(json_schema())
    (root / SETTINGS_FILE).write_text(settings_page())
    (root / MANUAL_FILE).write_text(settings_manual())


if __name__ == "__main__":
    write()
