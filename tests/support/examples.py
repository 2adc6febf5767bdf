"""Where the examples are, and how they are run: by their own configuration, on ports of the test's own."""

import itertools
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"

Example = Callable[..., Service]


def as_an_example(service: Service, path: str, *flags: str) -> Service:
    """Have a service run the configuration of an example: only where it listens is the test's."""
    service.config = EXAMPLES / path
    where = ("--listen", f"127.0.0.1:{service.port}", "--metrics", f"127.0.0.1:{service.metrics_port}")
    service.flags = (*where, "--control", str(service.control), *flags)
    return service


def pid_in(text: str) -> int:
    """The pid that an answer names."""
    return int(text.partition("pid ")[2].split()[0].rstrip(","))


@dataclass(frozen=True)
class Promise:
    """A curl command of a README, and what it says that the answer has."""

    source: str
    headers: dict[str, str]
    value: str


def promised(name: str, key: str) -> list[Promise]:
    """What the README of an example promises of `key` in the JSON of its answers."""
    promises = []
    for line in (EXAMPLES / name / "README.md").read_text().splitlines():
        command, _, answer = line.partition(" # ")
        told = re.search(rf'"{key}": ("[^"]*")', answer)
        words = shlex.split(command) if told else []
        if told and words[0] == "curl":
            options = dict(itertools.pairwise(words))
            header, _, content = options.get("-H", "").partition(": ")
            source = options.get("--interface", "127.0.0.1")
            promises.append(Promise(source, {header: content} if header else {}, json.loads(told[1])))
    return promises
