"""Describes what is wrong with a configuration, so that the operator can correct it without the manual."""

from collections.abc import Iterable, Sequence

from clusterd.records import dataclass

LONGEST_QUOTE = 60


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what may have been meant by a name that is not known; empty if none of `known` is like it."""
    from difflib import get_close_matches  # imported here: few configurations have mistakes

    return next(iter(get_close_matches(name, list(known), n=1)), "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a position in a file (lines and columns count from 1), or a flag."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Its text is always a single line.

    `found` says what was found. `allowed`, if there is a rule to name, says what would be right. `hint` says what to
    do. `key` is the dotted setting, or empty for a problem of the whole file.
    """

    place: Place
    key: str
    found: str
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        # The place of a flag already names the setting.
        named = self.key and self.place.line is not None
        what = f"found {self.found}, must be {self.allowed}" if self.allowed else self.found
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.place}: {self.key}: {what}{hint}" if named else f"{self.place}: {what}{hint}"


class ConfigError(Exception):
    """The configuration is refused. `problems` contains everything that is wrong with it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def in_one_line(problems: Sequence[Problem | str]) -> str:
    """Return the first of `problems` and their number. `systemctl status` shows only one line."""
    return str(problems[0]) if len(problems) == 1 else f"{len(problems)} problems, the first: {problems[0]}"


def quoted(text: str) -> str:
    """Return `text` for a message: on one line, without control characters, shortened to LONGEST_QUOTE."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 3] + "...")


def shown_key(key: str) -> str:
    """Return `key` for a message. It is quoted only if it would break the line or is too long."""
    return key if key.isprintable() and 0 < len(key) <= LONGEST_QUOTE else quoted(key)
