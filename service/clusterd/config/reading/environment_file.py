r"""Reads a file of environment variables, as Docker Compose (env_file) and python-dotenv write them.

A line is `NAME=VALUE`, with `export` before it if need be. An empty line and one that begins with # have no meaning.

- Without quotes, the value ends with its line or before a # that follows a space; spaces around it do not count.
- In single quotes every character is itself, and in double quotes \n, \r, \t, \", \$ and \\ are escapes. A value in
  quotes may go on over several lines.
- ${NAME} is refused, except in single quotes: other programs would put a variable there, and this one does not.
- If a name comes twice, the last value counts.
"""

import re
from dataclasses import field
from pathlib import Path

from clusterd.config.reading.files import text_of
from clusterd.config.reading.problems import ConfigError, Place, Problem
from clusterd.config.settings.application_settings import ENVIRONMENT_NAME, RESERVED_ENVIRONMENT
from clusterd.records import dataclass

_IF_ABSENT = "environment_file names it; leave that out, or create the file"
_IF_LARGE = "is this a file of environment variables?"
_NAMES = "a name has letters, digits and _, and does not begin with a digit; a value of several lines needs quotes"

_BLANK = re.compile(r"\s*(?:#[^\n]*)?(?:\n|$)")
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=#]+)[ \t]*=")
_OPENING_QUOTE = re.compile(r"[ \t]*(['\"])")
_IN_QUOTES = {"'": re.compile(r"([^']*)'"), '"': re.compile(r'((?:[^"\\]|\\.)*)"', re.DOTALL)}
_AFTER_QUOTES = re.compile(r"[ \t]*(?:[ \t]#[^\n]*)?(?=\n|$)")
_BARE = re.compile(r"(?:(?![ \t]#)[^\n])*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
_SUBSTITUTION = re.compile(r"(?<!\\)(?:\\\\)*\$\{")


class _Refusal(Exception):
    """What is wrong with a value, where the next variable may begin, and what to do. It never shows the value."""

    def __init__(self, found: str, end: int, hint: str = "") -> None:
        super().__init__(found)
        self.end = end
        self.hint = hint


@dataclass(slots=True)
class EnvironmentFile:
    """What a file says: the variables, the place of each, and what is wrong."""

    variables: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_environment_file(path: str) -> EnvironmentFile:
    """Return the contents of a file. One that cannot be read at all has a problem and no variables."""
    try:
        text = text_of(Path(path), _IF_ABSENT, _IF_LARGE)
    except ConfigError as error:
        return EnvironmentFile(problems=list(error.problems))
    return parse_environment(text, path)


def parse_environment(text: str, source: str) -> EnvironmentFile:
    """Return the contents of a text. `source` is the name of its file."""
    found = EnvironmentFile()
    text = text.replace("\r\n", "\n")
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        else:
            at = _take_variable(text, at, Place(source, text.count("\n", 0, at) + 1), found)
    return found


def _take_variable(text: str, at: int, place: Place, found: EnvironmentFile) -> int:
    """Take the variable at `at`. Return the place after it, or after its line if something is wrong with it."""
    named = _NAME.match(text, at)
    if named is None or not re.fullmatch(ENVIRONMENT_NAME, named[1]):
        found.problems.append(Problem(place, "", "this is not NAME=VALUE", hint=_NAMES))
        return _end_of_line(text, at)
    name = named[1]
    try:
        value, end = _value(text, named.end())
        if re.fullmatch(RESERVED_ENVIRONMENT, name):
            raise _Refusal(f"{name} is set by clusterd or systemd", end, "choose another name")
    except _Refusal as refusal:
        found.problems.append(Problem(place, "", str(refusal), hint=refusal.hint))
        return refusal.end
    found.variables[name] = value
    found.places[name] = place
    return end


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that begins at `at`, and where it ends. Raises _Refusal."""
    opening = _OPENING_QUOTE.match(text, at)
    if opening is None:
        bare = _BARE.match(text, at)
        assert bare is not None
        value, end = bare[0].strip(), _end_of_line(text, at)
        is_substituted = "${" in value
    else:
        quoted = _IN_QUOTES[opening[1]].match(text, opening.end())
        if quoted is None:
            raise _Refusal("this quote has no end", len(text))
        rest = _AFTER_QUOTES.match(text, quoted.end())
        if rest is None:
            raise _Refusal("text follows the closing quote", _end_of_line(text, quoted.end()), "quote the whole value")
        value, end = quoted[1], rest.end()
        is_substituted = opening[1] == '"' and _SUBSTITUTION.search(value) is not None
        if opening[1] == '"':
            value = _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[0]), value)
    if is_substituted:
        hint = "write the value out; if these characters are meant, put it in single quotes"
        raise _Refusal("${...} is not replaced by a variable's value", end, hint)
    if "\0" in value:
        raise _Refusal("a NUL cannot be part of an environment variable", end)
    return value, end


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
