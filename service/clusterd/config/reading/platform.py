"""The defaults that a platform gives in environment variables, as other servers understand them."""

from collections.abc import Mapping

from clusterd.config.reading.problems import ConfigError, Place, Problem
from clusterd.config.settings.kinds import Refusal
from clusterd.config.settings.schema import BY_KEY

_MEANING = {"PORT": ("listen", "0.0.0.0:{}"), "WEB_CONCURRENCY": ("workers", "{}")}
"""The setting of each variable, and the text of its value."""


def platform_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the texts that replace the defaults of settings, by key. Flags and the file take precedence.

    Raises ConfigError for a variable whose value is not allowed.
    """
    defaults, problems = {}, []
    for name, (key, form) in _MEANING.items():
        value = environ.get(name, "")
        if not value:
            continue
        text, kind = form.format(value), BY_KEY[key].kind
        try:
            kind.read(text, "")
        except Refusal:
            hint = f"it is the default of {key}, which must be {kind.allowed}"
            problems.append(Problem(Place(name), "", f"the environment has {value!r}", hint=hint))
        else:
            defaults[key] = text
    if problems:
        raise ConfigError(tuple(problems))
    return defaults


def notes(defaults: Mapping[str, str]) -> list[str]:
    """Return a line for the log for each default that the environment has set."""
    names = {key: name for name, (key, _) in _MEANING.items()}
    return [f"{names[key]} in the environment: the default of {key} is {text}" for key, text in defaults.items()]
