"""Fuzz for a while: `run.py [SECONDS [SEED]]`. A finding is printed and ends with status 1; its seed finds it again."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from random import SystemRandom

from tests.fuzz.conversations import KINDS, conversations
from tests.fuzz.parsing import Parsing


def main(seconds: float, seed: int) -> None:
    """Half of the time for the parser, the other half for the three kinds of engines."""
    print(f"seed {seed}: `make fuzz SEED={seed}` does the same again", flush=True)
    parsing = Parsing(seed)
    until(seconds / 2, parsing.round)
    print(f"parser: {parsing.streams} streams, {parsing.requests} requests, {parsing.refused} refused", flush=True)
    for kind in KINDS:
        with ExitStack() as stack:
            talks = stack.enter_context(conversations(kind, seed))
            until(seconds / 2 / len(KINDS), talks.round)
        print(f"{kind.name}: {talks.streams} streams, {talks.requests} requests answered", flush=True)


def until(seconds: float, once: Callable[[], None]) -> None:
    """Again and again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        once()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        float(arguments[0]) if arguments else 60.0,
        int(arguments[1]) if len(arguments) > 1 else SystemRandom().randrange(1 << 32),
    )
