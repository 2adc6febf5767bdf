"""Reads a configuration: the file, overridden by the flags, completed by the defaults. All problems are reported."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Never

from clusterd.config.address import Address
from clusterd.config.model import (
    Config,
    Debug,
    HealthCheck,
    Limits,
    Log,
    Metrics,
    Restarts,
    Rollout,
    Timeouts,
    Tls,
    UnixSockets,
)
from clusterd.config.reading.checks import check_combinations, check_names, check_paths
from clusterd.config.reading.document import parse_document
from clusterd.config.reading.environment_file import read_environment_file
from clusterd.config.reading.files import text_of
from clusterd.config.reading.given import document_of
from clusterd.config.reading.platform import defaults_of_file
from clusterd.config.reading.problems import ConfigError, Place, Problem
from clusterd.config.reading.values import Values
from clusterd.config.reading.working_directory import absolute, working_directory
from clusterd.config.settings.schema import BY_KEY, SETTINGS
from clusterd.config.settings.setting import Shape

__all__ = ["ConfigError", "Problem", "load", "load_given", "written_control", "written_metrics"]

_HEALTH_CHECK = "rollout.health_check"
_NO_OVERRIDES: Mapping[str, Sequence[str]] = MappingProxyType({})
_NO_DEFAULTS: Mapping[str, str] = MappingProxyType({})


def load(
    path: Path | None,
    overrides: Mapping[str, Sequence[str]] = _NO_OVERRIDES,
    defaults: Mapping[str, str] = _NO_DEFAULTS,
) -> Config:
    """Return the configuration in the file at `path` (None: no file), overridden by flags.

    `overrides` contains the texts given for each setting's flag, by key; for a setting with one value the last text
    counts. `defaults` contains texts that replace the defaults of the schema. Paths in the file are relative to the
    file, those in flags to the working directory. Raises ConfigError with every problem.
    """
    source = Place(str(path) if path is not None else "clusterd")
    _check_working_directory(source)
    base = absolute(path.parent if path is not None else ".")
    given = Values([])
    if path is not None:
        root = parse_document(_text(path), source.source, base, given.problems)
        if root is not None:
            given.take_section(root)
        elif not overrides:
            _refuse(source, "there is no setting in this file", "at least name the application, as in app: myapp:app")
    for key, texts in overrides.items():
        given.take_flag(BY_KEY[key], texts)
    return _concluded(given, source, base, defaults)


def load_given(settings: Mapping[str, Any], source: str, defaults: Mapping[str, str] = _NO_DEFAULTS) -> Config:
    """Return the configuration that a program gives, with sections as dicts. `source` names the receiver in messages.

    Paths are relative to the working directory. Raises ConfigError with every problem.
    """
    _check_working_directory(Place(source))
    given = Values([])
    document = document_of(settings, given.problems)
    if given.problems:
        raise ConfigError(tuple(given.problems))
    given.take_section(document)
    return _concluded(given, Place(source), working_directory(), defaults)


def _concluded(given: Values, source: Place, base: str, defaults: Mapping[str, str]) -> Config:
    """Add the defaults, check the configuration as a whole, and build it."""
    from_file: Mapping[str, str] = {}
    if path := given.values.get("environment_file"):
        file = read_environment_file(path)
        given.problems += file.problems
        from_file = file.variables
        defaults = {**defaults, **defaults_of_file(file, given.problems)}
    _fill_in_defaults(given, source, base, defaults)
    given.values["environment"] = {**from_file, **given.values["environment"]}
    check_combinations(given, source)
    check_paths(given)
    check_names(given)
    if given.problems:
        raise ConfigError(tuple(sorted(given.problems, key=_position)))
    return _built(given.values)


def written_control(path: Path) -> str | None:
    """Return the setting `control` of the file at `path`, even if other settings are wrong.

    Raises ConfigError if the file does not exist or is not YAML.
    """
    control: str | None = _written(path).get("control")
    return control


def written_metrics(path: Path, default: Address) -> Address | None:
    """Return the setting `metrics.address` of the file at `path`, even if other settings are wrong.

    The result is None for `off` and `default` if the file does not set it. Raises ConfigError as `written_control`
    does.
    """
    metrics: Address | None = _written(path).get("metrics.address", default)
    return metrics


def _written(path: Path) -> Mapping[str, Any]:
    """Return the valid values of a file, by key."""
    given = Values([])
    root = parse_document(_text(path), str(path), absolute(path.parent), given.problems)
    if root is not None:
        given.take_section(root)
    return given.values


def _check_working_directory(source: Place) -> None:
    try:
        working_directory()
    except OSError:
        hint = "paths are relative to it: start clusterd again, in a directory that exists"
        _refuse(source, "the working directory has been deleted", hint)


def _text(path: Path) -> str:
    if_absent = "name another with --config, or just the application: clusterd myapp:app"
    return text_of(path, if_absent, "is this the configuration?")


def _refuse(place: Place, found: str, hint: str = "") -> Never:
    raise ConfigError((Problem(place, "", found, hint=hint),)) from None


def _fill_in_defaults(given: Values, source: Place, base: str, defaults: Mapping[str, str]) -> None:
    checked = any(key.startswith(_HEALTH_CHECK) for key in given.places)
    for setting in SETTINGS:
        key = setting.key
        if key in given.places or (key.startswith(_HEALTH_CHECK) and not checked):
            continue
        default = defaults.get(key, setting.default)
        if default is None and setting.instead in given.places:
            given.values[key] = None
        elif default is None:
            # The place is the line of the section that lacks the setting, if there is such a section.
            place = given.places.get(key.rpartition(".")[0], source)
            given.refuse(
                place, key, "is missing" if place.line else f"{key} is missing", hint=f"write {setting.kind.allowed}"
            )
        elif setting.shape is Shape.NAMED:
            given.values[key] = {}
        elif setting.shape is Shape.LIST and not default:
            given.values[key] = ()
        else:
            value = setting.kind.read(default, base)
            given.values[key] = (value,) if setting.shape is Shape.LIST else value


def _position(problem: Problem) -> tuple[float, int]:
    """Sort key: problems without a line come last, in the order in which they were found."""
    return problem.place.line or math.inf, problem.place.column or 0


def _built(values: Mapping[str, Any]) -> Config:
    top = {key: value for key, value in values.items() if "." not in key}
    rollout, check = _section(values, "rollout"), _section(values, _HEALTH_CHECK)
    return Config(
        **top | {"python": top["python"] or sys.executable, "environment": MappingProxyType(top["environment"])},
        tls=Tls(**_section(values, "tls")),
        metrics=Metrics(**_section(values, "metrics")),
        unix_sockets=UnixSockets(**_section(values, "unix_sockets")),
        rollout=Rollout(**rollout, health_check=HealthCheck(**check) if check else None),
        restarts=Restarts(**_section(values, "restarts")),
        timeouts=Timeouts(**_section(values, "timeouts")),
        limits=Limits(**_section(values, "limits")),
        log=Log(**_section(values, "log")),
        debug=Debug(**_section(values, "debug")),
    )


def _section(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return the values of a section by their last names, without those of its subsections."""
    split = {key: key.rpartition(".") for key in values}
    return {name: values[key] for key, (above, _, name) in split.items() if above == section}
