import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.reading.loader import ConfigError, load
from clusterd.config.reference import SCHEMA, generated, json_schema
from clusterd.config.settings.schema import BY_KEY, SECTIONS, SETTINGS
from clusterd.config.settings.setting import Applies
from tests.support.configurations import write

pytestmark = pytest.mark.engine_independent

SOURCE_TREE = Path(__file__).parents[2]
NAMES_OF_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a JSON Schema accepts a value: as much of draft 7 as ours use."""
    unknown = schema.keys() - {
        "$schema", "title", "description", "type", "properties", "additionalProperties", "required", "propertyNames",
        "items", "minItems", "anyOf", "enum", "const", "pattern", "minimum", "maximum", "minLength",
    }  # fmt: skip
    assert not unknown
    return all(_fits_keyword(value, schema, keyword) for keyword in schema)


def _fits_keyword(value: Any, schema: dict[str, Any], keyword: str) -> bool:
    wanted = schema[keyword]
    match keyword:
        case "type":
            return any(_has_type(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted))
        case "properties" if isinstance(value, dict):
            return all(fits(value[name], wanted[name]) for name in value.keys() & wanted.keys())
        case "additionalProperties" if isinstance(value, dict):
            others = [value[name] for name in value.keys() - schema.get("properties", {}).keys()]
            return not others if wanted is False else all(fits(other, wanted) for other in others)
        case "propertyNames" if isinstance(value, dict):
            return all(fits(name, wanted) for name in value)
        case "required" if isinstance(value, dict):
            return set(wanted) <= value.keys()
        case "items" if isinstance(value, list):
            return all(fits(item, wanted) for item in value)
        case "minItems" if isinstance(value, list):
            return len(value) >= int(wanted)
        case "anyOf":
            return any(fits(value, each) for each in wanted)
        case "enum":
            return any(value == each and type(value) is type(each) for each in wanted)
        case "const":
            return bool(value == wanted)
        case "pattern" if isinstance(value, str):
            return re.search(wanted, value) is not None
        case "minLength" if isinstance(value, str):
            return len(value) >= int(wanted)
        case "minimum" if isinstance(value, int):
            return value >= int(wanted)
        case "maximum" if isinstance(value, int):
            return value <= int(wanted)
    return True


def _has_type(value: Any, name: str) -> bool:
    if name == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, NAMES_OF_TYPES[name]) and not (name == "integer" and isinstance(value, bool))


@pytest.mark.parametrize("name", generated())
def test_generated_files_are_current(name: str) -> None:
    committed = (SOURCE_TREE / name).read_text(encoding="utf-8")
    assert committed == generated()[name], "run `make docs` and commit what it writes"


def test_the_shipped_configuration_is_good_and_names_its_schema() -> None:
    path = SOURCE_TREE / "etc/clusterd/clusterd.yaml"
    config = load(path)
    assert config.app == "hello:app"
    assert Path(config.directory).samefile(SOURCE_TREE / "examples/hello")
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    assert first_line == f"# yaml-language-server: $schema={Path(SCHEMA).name}"


def test_commented_lines_of_the_shipped_configuration_are_good_as_well(tmp_path: Path) -> None:
    shipped = (SOURCE_TREE / "etc/clusterd/clusterd.yaml").read_text(encoding="utf-8")
    lines = [line for line in shipped.splitlines() if not line.startswith("# ")]
    text = "\n".join(line.removeprefix("#") for line in lines)
    (tmp_path / "etc/clusterd").mkdir(parents=True)
    (tmp_path / "examples/hello").mkdir(parents=True)
    path = tmp_path / "etc/clusterd/clusterd.yaml"
    path.write_text(text.replace("/srv/myapp/.venv/bin/python", "/bin/sh"), encoding="utf-8")
    assert load(path).python == "/bin/sh"


def test_every_setting_is_in_the_model_and_every_part_of_the_model_is_a_setting(tmp_path: Path) -> None:
    config = load(write(tmp_path, "app: a:b\nrollout: {health_check: {path: /}}\n"))
    keys = set()
    sections: list[tuple[str, Any]] = [("", config)]
    while sections:
        prefix, section = sections.pop()
        for field in dataclasses.fields(section):
            key = f"{prefix}{field.name}"
            if key in SECTIONS:
                sections.append((f"{key}.", getattr(section, field.name)))
            else:
                keys.add(key)
    assert keys == set(BY_KEY)


def test_keys_are_unique_and_helps_are_sentences() -> None:
    assert len(BY_KEY) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.help.endswith("."), setting.key
        assert setting.help[0].isupper() or setting.help.startswith("/"), setting.key


def test_the_json_schema_accepts_what_the_loader_accepts() -> None:
    everything = {
        "app": "shop.wsgi:make_app()", "preload": False, "workers": 3, "metrics": "off", "worker_stop": None,
        "environment": {"SWITCH": "NO", "MODE": 660, "EMPTY": None}, "listen": ["[::1]:8080", "unix:run/http.sock"],
        "rollout": {"boot_timeout": "1.5m", "health_check": {"path": "/", "expect": 204}}, "limits": {"body": "2G"},
        "timeouts": None, "log": {"access": "off"},
    }  # fmt: skip
    assert fits(everything, json_schema())
    assert fits({"workers": "auto", "preload": "auto", "rollout": {"health_check": None}}, json_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"wokers": 3},
        {"workers": 0},
        {"workers": True},
        {"threads": "4"},
        {"preload": "yes"},
        {"timeouts": {"drain": 30}},
        {"timeouts": {"drain": "30"}},
        {"limits": {"body": "16MB"}},
        {"tls": {"minimum_version": 1.1}},
        {"listen": [8000]},
        {"listen": "127.0.0.1:80"},
        {"environment": {"1A": "x"}},
        {"environment": {"A": []}},
        {"rollout": {"health_check": {"host": "a"}}},
        {"app": "shop:"},
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(tmp_path: Path, wrong: dict[str, Any]) -> None:
    assert not fits(wrong, json_schema())
    with pytest.raises(ConfigError):
        # JSON is YAML.
        load(write(tmp_path, json.dumps({"app": "a:b", **wrong})))


def test_only_what_is_bound_at_the_start_needs_a_restart() -> None:
    restart = {setting.key for setting in SETTINGS if setting.applies is Applies.RESTART}
    assert restart == {
        "listen",
        "tls.listen",
        "metrics.address",
        "control",
        "agent",
        "unix_sockets.mode",
        "unix_sockets.owner",
        "unix_sockets.group",
    }
