"""The defaults that a platform gives in environment variables, as other servers understand them."""

from collections.abc import Mapping

from clusterd.config.reading.environment_file import EnvironmentFile, read_environment_file
from clusterd.config.reading.problems import ConfigError, Place, Problem
from clusterd.config.settings.kinds import Refusal
from clusterd.config.settings.schema import BY_KEY

_MEANING = {"PORT": ("listen", "0.0.0.0:{}"), "WEB_CONCURRENCY": ("workers", "{}")}
"""The setting of each variable, and the text of its value."""


def platform_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that replace the defaults of settings, by key. Flags and the file take precedence.

    Raises ConfigError for a variable whose value is not allowed.
    """
    problems: list[Problem] = []
    defaults = _defaults(environ, {name: Place(name) for name in _MEANING}, "the environment has ", problems)
    if problems:
        raise ConfigError(tuple(problems))
    return defaults


def defaults_of_file(file: EnvironmentFile, problems: list[Problem]) -> dict[str, str]:
    """Return the same of the variables in a file, which take precedence over those of the environment."""
    return _defaults(file.variables, file.places, "{} is ", problems)


def notes(defaults: Mapping[str, str], environment_file: str | None) -> list[str]:
    """Return lines for the log: the variables that the file sets, and each default of a setting that a variable sets.

    `defaults` are those of the environment.
    """
    lines = []
    file = EnvironmentFile() if environment_file is None else read_environment_file(environment_file)
    from_file = defaults_of_file(file, [])
    if environment_file is not None:
        lines.append(f"the environment file {environment_file} sets {', '.join(file.variables) or 'nothing'}")
    names = {key: name for name, (key, _) in _MEANING.items()}
    for key, text in {**defaults, **from_file}.items():
        where = environment_file if key in from_file else "the environment"
        lines.append(f"{names[key]} in {where}: the default of {key} is {text}")
    return lines


def _defaults(
    variables: Mapping[str, str], places: Mapping[str, Place], found: str, problems: list[Problem]
) -> dict[str, str]:
    defaults = {}
    for name, (key, form) in _MEANING.items():
        value = variables.get(name, "")
        if not value:
            continue
        text, kind = form.format(value), BY_KEY[key].kind
        try:
            kind.read(text, "")
        except Refusal:
            hint = f"it is the default of {key}, which must be {kind.allowed}"
            problems.append(Problem(places[name], "", f"{found.format(name)}{value!r}", hint=hint))
        else:
            defaults[key] = text
    return defaults
