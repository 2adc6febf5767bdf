"""The committed files that are made from the schema are current, and the shipped configuration is right."""

import json
from pathlib import Path

from clusterd.config.loader import load
from clusterd.config.reference import (
    MANUAL_FILE,
    ROOT,
    SCHEMA_FILE,
    SETTINGS_FILE,
    json_schema,
    settings_manual,
    settings_page,
)
from clusterd.config.schema import SETTINGS

SHIPPED = ROOT / "etc/clusterd/clusterd.yaml"


def test_the_committed_files_are_current() -> None:
    assert (ROOT / SCHEMA_FILE).read_text() == json_schema(), "run make docs"
    assert (ROOT / SETTINGS_FILE).read_text() == settings_page(), "run make docs"
    assert (ROOT / MANUAL_FILE).read_text() == settings_manual(), "run make docs"


def test_the_shipped_configuration_loads_and_names_its_schema() -> None:
    assert load(SHIPPED).app == "hello:app"
    first_line = SHIPPED.read_text().partition("\n")[0]
    assert first_line == f"# yaml-language-server: $schema={SCHEMA_FILE.name}"
    assert (Path(load(SHIPPED).directory) / "hello.py").exists()


def test_every_setting_is_in_the_json_schema() -> None:
    document = json.loads(json_schema())
    for setting in SETTINGS:
        section = document
        for name in setting.key.split("."):
            section = section["properties"][name]
            section = next((each for each in section.get("anyOf", []) if "properties" in each), section)
        assert section["description"] == setting.help
