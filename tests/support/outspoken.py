"""A service with a program, or hooks, that say on their output what they are told: JSON behind an @."""

import json
import re
from typing import Any

from tests.support.service import Service


class Raised(Exception):
    """What an expression has raised: the name of its kind, and its text."""


class Outspoken(Service):
    """What was said, and the answers to what it was asked to do."""

    def said(self) -> list[list[Any]]:
        """Everything until now."""
        return [json.loads(line.removeprefix("@ ")) for line in list(self.lines) if line.startswith("@ ")]

    def wait_to_hear(self, *words: object, after: int = 0) -> list[Any]:
        """The first thing said that begins with these words. Raises Never."""
        beginning = re.escape(json.dumps(words)[:-1])
        line = self.wait_for_line(rf"^@ {beginning}[,\]]", after)
        said: list[Any] = json.loads(line.removeprefix("@ "))
        return said

    def wait_for_outcome(self, number: int) -> Any:
        """What has come of the expression with this number. Raises Raised."""
        line = self.wait_for_line(rf'^@ \["(done|error)", {number}, ')
        kind, _, *values = json.loads(line.removeprefix("@ "))
        if kind == "error":
            raise Raised(*values)
        return values[0]

    def pids(self) -> dict[int, int]:
        """Of those who serve, by slot."""
        return {worker["slot"]: worker["pid"] for worker in self.workers()}
